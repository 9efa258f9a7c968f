/* Tiles of more than 8 bits: FORMAT.md, "High bit depth".  Numbers k come as int32; what the network sees are units from
 * the window's middle.  Whole numbers of 64 bits and float64, both exact here, stand where 8-bit tiles use float32. */
#include "range_coder.h"
#include "wavefront.h"

#include <stdlib.h>

#define DEEP 2
#define SUBSTEPS 256 /* of an entry of the sigmoid table, which is interpolated */
#define MAX_DIGITS 4

/* The window of a tile: numbers 0..top, seen from the middle in units of 2^shift steps. */
typedef struct {
    int32_t top, middle, shift, digits;
} Window;

typedef struct {
    double centres[COMPONENTS];                        /* 1/64 unit, from the middle */
    double inverse[COMPONENTS];                        /* per 1/64 unit, in substeps of the table */
    int64_t weights[COMPONENTS];
    int64_t total;
} DeepMixture;

typedef struct {
    Wavefront w;
    Window window;
    double grain;        /* a step in units */
    int32_t *centred;    /* (3 + height, 3 + width + 3) numbers minus the middle; around is zero */
    DeepMixture *mixtures; /* (lanes,) */
    int32_t *values;     /* (lanes,) numbers, or what is decoded of them */
    int64_t *start, *end;  /* (lanes,) F at the edges of the digit decoded last */
    int32_t sigmoid[2 * REACH + 2];
} Deep;

static int deep_start(Deep *d, const Network *net, const Tables *tables, const Window *window, int height, int width) {
    memset(d, 0, sizeof *d);
    if (!wavefront_start(&d->w, net, DEEP, tables, height, width)) return 0;
    d->window = *window;
    d->grain = 1.0 / (double)(1 << window->shift);
    d->centred = calloc((size_t)(ABOVE + height) * d->w.row, sizeof(int32_t));
    d->mixtures = calloc(height, sizeof(DeepMixture));
    d->values = calloc(height, sizeof(int32_t));
    d->start = calloc(2 * (size_t)height, sizeof(int64_t));
    d->end = d->start + height;
    for (int i = 0; tables && i <= 2 * REACH; i++) d->sigmoid[i] = (int32_t)tables->sigmoid[i];
    d->sigmoid[2 * REACH + 1] = d->sigmoid[2 * REACH]; /* never counts: nothing is left over at the end */
    return d->centred && d->mixtures && d->values && d->start;
}

static void deep_end(Deep *d) {
    free(d->centred), free(d->mixtures), free(d->values), free(d->start);
    wavefront_end(&d->w);
}

static double limited(double x, double limit) { return x < -limit ? -limit : x > limit ? limit : x; }

/* Round to whole numbers, ties to even, within +-limit, whole too and below 2^51. */
static double snapped(double x, double limit) { return (limited(x, limit) + 0x1.8p52) - 0x1.8p52; }

/* Predict a group linearly. */
static void predict_base(Deep *d, const Group *g) {
    int8_t taps[2 * PAIRS][2];
    network_taps(1, taps);
    for (int lane = 0; lane < g->lanes; lane++) {
        const int32_t *at = d->centred + wavefront_place(&d->w, g, lane);
        int64_t total = 0;
        for (int t = 0; t < STRICT_TAPS; t++)
            total += (int64_t)d->w.port->mantissas[t] * at[taps[t][0] * d->w.row + taps[t][1]];
        d->w.base[lane] = (float)snapped((double)total * (1.0 / 64) * d->grain, 1048576.0);
    }
}

static void keep_group(Deep *d, const Group *g) {
    for (int lane = 0; lane < g->lanes; lane++) {
        const ptrdiff_t place = wavefront_place(&d->w, g, lane);
        level_t *seen = d->w.planes + place * d->w.port->planes;
        const int32_t x = d->values[lane] - d->window.middle;
        const double unit = (double)x * d->grain, residual = unit * 16.0 - (double)d->w.base[lane];
        d->centred[place] = x;
        seen[0] = level_of((int)snapped(unit, 127.0));
        seen[1] = level_of((int)snapped(residual * (1.0 / 8), 127.0));
        seen[2] = level_of((int)snapped(residual * (1.0 / 2), 127.0));
        seen[3] = level_of(64);
    }
}

static DeepMixture mixture_of_pixel(const Deep *d, const float *outputs, double base, const int32_t *at) {
    const Network *net = d->w.net;
    const double middle = (MIN_SCALE + MAX_SCALE) / 2, reach = (MAX_SCALE - MIN_SCALE) / 2;
    const int32_t copied[2] = {at[-1], at[-d->w.row]}; /* west and north */
    const float *means = outputs + COMPONENTS, *scales = outputs + 2 * COMPONENTS;
    const int n = net->mixtures + net->copies;
    double logits[COMPONENTS], largest = -127.0;
    DeepMixture m;
    memset(&m, 0, sizeof m);
    for (int k = 0; k < n; k++) {
        logits[k] = snapped(outputs[k], 127.0);
        if (logits[k] > largest) largest = logits[k];
    }
    for (int k = 0; k < n; k++) {
        if (k < net->mixtures)
            m.centres[k] = (snapped((double)means[k] * 8.0, 4080.0) + base) * 4.0;
        else
            m.centres[k] = (double)copied[k - net->mixtures] * d->grain * 64.0;
        const int scale = (int)(snapped((double)scales[k] - middle, reach) + middle) - MIN_SCALE;
        m.inverse[k] = (double)d->w.tables->inverse_scale[scale] * SUBSTEPS;
        m.weights[k] = (int64_t)d->w.tables->weight[(int)(largest - logits[k])];
        m.total += m.weights[k] * (int64_t)CERTAIN;
    }
    return m;
}

static void mixtures_of_group(Deep *d, const Group *g) {
    const int columns = d->w.port->head.columns;
    for (int lane = 0; lane < g->lanes; lane++) {
        const float *outputs = d->w.outputs + (size_t)lane * columns;
        const int32_t *at = d->centred + wavefront_place(&d->w, g, lane);
        d->mixtures[lane] = mixture_of_pixel(d, outputs, (double)d->w.base[lane], at);
    }
}

/* Return F(x): the count of all numbers below x. */
static int64_t count_below(const Deep *d, const DeepMixture *m, int64_t x) {
    if (x <= 0) return 0;
    if (x > d->window.top) return m->total;
    const double edge = (double)(2 * (x - d->window.middle) - 1) * 32.0 * d->grain;
    int64_t total = 0;
    int32_t at[COMPONENTS];
    for (int k = 0; k < COMPONENTS; k++) /* those that are not there weigh nothing */
        at[k] = (int32_t)snapped((edge - m->centres[k]) * m->inverse[k], (double)REACH * SUBSTEPS) + REACH * SUBSTEPS;
    for (int k = 0; k < COMPONENTS; k++) {
        const int32_t i = at[k] / SUBSTEPS, f = at[k] % SUBSTEPS, here = d->sigmoid[i];
        total += m->weights[k] * (SUBSTEPS * here + f * (d->sigmoid[i + 1] - here));
    }
    return total / SUBSTEPS;
}

/* --- encoding ----------------------------------------------------------------------------------- */

static void encode_group(Deep *d, const Group *g, Encoder *e) {
    for (int lane = 0; lane < g->lanes; lane++) {
        d->start[lane] = 0;
        d->end[lane] = count_below(d, &d->mixtures[lane], (int64_t)1 << 4 * d->window.digits);
    }
    for (int digit = d->window.digits - 1; digit >= 0; digit--)
        for (int lane = 0; lane < g->lanes; lane++) {
            const DeepMixture *m = &d->mixtures[lane];
            const int64_t first = (int64_t)(d->values[lane] >> 4 * digit) << 4 * digit, origin = d->start[lane];
            const int j = d->values[lane] >> 4 * digit & 15;
            const float scale = FREE_COUNTS / (float)(d->end[lane] - origin + RADIX);
            if (j > 0) d->start[lane] = count_below(d, m, first);
            if (j < RADIX - 1) d->end[lane] = count_below(d, m, first + ((int64_t)1 << 4 * digit));
            const uint32_t left = edge_of((float)(d->start[lane] - origin + j), scale, j);
            const uint32_t right =
                j < RADIX - 1 ? edge_of((float)(d->end[lane] - origin + j + 1), scale, j + 1) : TOTAL;
            encoder_put(e, left, right - left);
        }
}

static void values_of_group(Deep *d, const Group *g, const int32_t *numbers) {
    for (int lane = 0; lane < g->lanes; lane++) {
        const int row = g->first + lane;
        d->values[lane] = numbers[(size_t)row * d->w.width + g->group - 2 * row];
    }
}

/* Encode numbers (height, width), each 0..top; `words` has room for three bytes a digit and four words more.  Returns
 * the number of words, -1 without memory. */
API int64_t archiver_deep_encode(
    const Network *net, const Tables *tables, const Window *window, const int32_t *numbers, int height, int width,
    uint32_t *words) {
    Deep d;
    Encoder e;
    int64_t n = -1;
    encoder_start(&e, words);
    if (deep_start(&d, net, tables, window, height, width)) {
        for (int t = 0; t < wavefront_groups(&d.w); t++) {
            const Group g = wavefront_group(&d.w, t);
            if (!g.lanes) continue;
            predict_base(&d, &g);
            wavefront_pass(&d.w, &g, NULL, NULL);
            mixtures_of_group(&d, &g);
            values_of_group(&d, &g, numbers);
            encode_group(&d, &g, &e);
            keep_group(&d, &g);
        }
        n = (int64_t)encoder_end(&e);
    }
    deep_end(&d);
    return n;
}

/* --- decoding ----------------------------------------------------------------------------------- */

/* Decode one digit of a lane, worth 16^digit: of four quarters, then of four digits.  Returns 0 if the stream is beyond
 * its interval. */
static int decode_digit(Deep *d, int lane, int digit, Decoder *decoder) {
    const DeepMixture *m = &d->mixtures[lane];
    const int64_t origin = d->start[lane], first = d->values[lane];
    const float scale = FREE_COUNTS / (float)(d->end[lane] - origin + RADIX);
    const uint64_t place = decoder_place(decoder);
    uint32_t left = 0, right = TOTAL;
    int found = 0;
    if (place >= TOTAL) return 0;
    for (int quarter = RADIX / 4; quarter; quarter /= 4) {
        const int base = found;
        for (int i = 1; i < 4; i++) {
            const int j = base + i * quarter;
            const int64_t count = count_below(d, m, first + ((int64_t)j << 4 * digit));
            const uint32_t edge = edge_of((float)(count - origin + j), scale, j);
            if (edge > place) {
                right = edge;
                d->end[lane] = count;
                break;
            }
            found = j;
            left = edge;
            d->start[lane] = count;
        }
    }
    decoder_take(decoder, left, right - left);
    d->values[lane] += found << 4 * digit;
    return 1;
}

static int decode_group(Deep *d, const Group *g, Decoder *decoder) {
    for (int lane = 0; lane < g->lanes; lane++) {
        d->values[lane] = 0;
        d->start[lane] = 0;
        d->end[lane] = count_below(d, &d->mixtures[lane], (int64_t)1 << 4 * d->window.digits);
    }
    for (int digit = d->window.digits - 1; digit >= 0; digit--)
        for (int lane = 0; lane < g->lanes; lane++)
            if (!decode_digit(d, lane, digit, decoder)) return 0;
    return 1;
}

/* Decode numbers (height, width), each below 16^digits, from `bytes` bytes, a multiple of 4.  Returns 1; 0 if the
 * stream is beyond its interval; -1 without memory. */
API int archiver_deep_decode(
    const Network *net, const Tables *tables, const Window *window, const uint8_t *payload, size_t bytes,
    int32_t *numbers, int height, int width) {
    Deep d;
    Decoder decoder;
    int result = -1;
    decoder_start(&decoder, payload, bytes);
    if (deep_start(&d, net, tables, window, height, width)) {
        result = 1;
        for (int t = 0; result == 1 && t < wavefront_groups(&d.w); t++) {
            const Group g = wavefront_group(&d.w, t);
            if (!g.lanes) continue;
            predict_base(&d, &g);
            wavefront_pass(&d.w, &g, NULL, NULL);
            mixtures_of_group(&d, &g);
            result = decode_group(&d, &g, &decoder);
            for (int lane = 0; lane < g.lanes; lane++) {
                const int row = g.first + lane;
                numbers[(size_t)row * width + g.group - 2 * row] = d.values[lane];
            }
            keep_group(&d, &g);
        }
    }
    deep_end(&d);
    return result;
}

/* Compute, of numbers, base predictions (height, width) and, where not NULL, what the head sees, levels (height, width,
 * dim), and its outputs (height, width, n_outputs).  Returns 1, -1 without memory. */
API int archiver_deep_predict(
    const Network *net, const Window *window, const int32_t *numbers, int height, int width, float *base,
    int8_t *levels, float *outputs) {
    Deep d;
    int result = -1;
    const LevelsOut seen = {&d.w, levels};
    if (deep_start(&d, net, NULL, window, height, width)) {
        result = 1;
        for (int t = 0; t < wavefront_groups(&d.w); t++) {
            const Group g = wavefront_group(&d.w, t);
            if (!g.lanes) continue;
            predict_base(&d, &g);
            wavefront_pass(&d.w, &g, levels ? wavefront_levels : NULL, &seen);
            values_of_group(&d, &g, numbers);
            wavefront_predictions(&d.w, &g, base, outputs);
            keep_group(&d, &g);
        }
    }
    deep_end(&d);
    return result;
}
