/* Tiles of 8 bits, grey or RGB: their streams, and what the network says of them. */
#include "range_coder.h"
#include "wavefront.h"

#include <stdlib.h>

typedef struct {
    uint32_t left, width; /* of an interval, of TOTAL */
} Interval;

/* What one channel of a group takes: its mixtures, and the interval or the sample of each digit. */
typedef struct {
    Mixture *mixtures;   /* (lanes,) */
    float *centred;      /* (lanes, channels) samples minus 128 of this group */
    Interval *intervals; /* (2, lanes) of the high and of the low digit */
    float *start, *end;  /* (lanes,) F at the edges of the decoded high digit */
    f4 *counts;          /* (lanes,) F at four edges, of which one or two may be those of the digit */
    int *high, *guess;   /* (lanes,) */
    void *memory;
} Channel;

static int channel_start(Channel *c, int lanes, int channels) {
    const size_t one = sizeof(Mixture) + sizeof(f4) + 2 * sizeof(Interval) + (2 + channels) * sizeof(float) + 2 * sizeof(int);
    memset(c, 0, sizeof *c);
    c->memory = aligned_alloc(64, (lanes * one + 127) / 64 * 64);
    if (!c->memory) return 0;
    c->mixtures = c->memory;
    c->counts = (f4 *)(c->mixtures + lanes);
    c->intervals = (Interval *)(c->counts + lanes);
    c->high = (int *)(c->intervals + 2 * lanes);
    c->guess = c->high + lanes;
    c->start = (float *)(c->guess + lanes);
    c->end = c->start + lanes;
    c->centred = c->end + lanes;
    return 1;
}

static void mixtures_of_group(const Wavefront *w, const Group *g, Channel *channel, int c, f8 there) {
    const int channels = w->port->channels, columns = w->port->head.columns;
    for (int lane = 0; lane < g->lanes; lane++) {
        const level_t *at = w->samples + wavefront_place(w, g, lane) * channels;
        const level_t *neighbour[2] = {at - channels, at - w->row * channels}; /* west and north */
        float copied[2][MAX_CHANNELS];
        for (int j = 0; j < w->net->copies; j++)
            for (int i = 0; i <= c; i++) copied[j][i] = (float)((int)neighbour[j][i] - LEVEL_ZERO);
        channel->mixtures[lane] = mixture_of(
            w->net, w->tables, w->outputs + (size_t)lane * columns, w->base + lane * channels,
            channel->centred + lane * channels, copied, c, there);
    }
}

/* --- encoding ----------------------------------------------------------------------------------- */

/* Return the interval of digit j whose frequencies sum to `total`; `before` and `after` count from the first digit. */
static Interval interval_of(float before, float after, float total, int j) {
    const float scale = FREE_COUNTS / total;
    const uint32_t left = edge_of(before + (float)j, scale, j);
    const uint32_t right = j == RADIX - 1 ? TOTAL : edge_of(after + (float)(j + 1), scale, j + 1);
    Interval interval = {left, right - left};
    return interval;
}

static void find_intervals(const Tables *t, const Mixture *m, int sample, Interval *high, Interval *low) {
    const int h = sample / RADIX, l = sample % RADIX;
    const f4 edges = {(float)(h * RADIX), (float)(h * RADIX + RADIX), (float)sample, (float)(sample + 1)};
    const f4 counts = mixture_counts(t, m, edges);
    const float start = h ? counts[0] : 0.0f, end = h < RADIX - 1 ? counts[1] : m->total;
    const float before = l ? counts[2] : start, after = counts[3];
    *high = interval_of(start, end, m->total + RADIX, h);
    *low = interval_of(before - start, after - start, end - start + RADIX, l);
}

static void encode_group(Wavefront *w, const Group *g, const uint8_t *tile, Channel *channel, Encoder *e, f8 there) {
    const int channels = w->port->channels, lanes = g->lanes;
    for (int lane = 0; lane < lanes; lane++) {
        const int row = g->first + lane, column = g->group - 2 * row;
        const uint8_t *sample = tile + ((size_t)row * w->width + column) * channels;
        for (int c = 0; c < channels; c++) channel->centred[lane * channels + c] = (float)sample[c] - 128.0f;
    }
    for (int c = 0; c < channels; c++) {
        mixtures_of_group(w, g, channel, c, there);
        for (int lane = 0; lane < lanes; lane++) {
            const int sample = (int)channel->centred[lane * channels + c] + 128;
            Interval *at = channel->intervals + lane;
            find_intervals(w->tables, &channel->mixtures[lane], sample, at, at + lanes);
        }
        for (int i = 0; i < 2 * lanes; i++) encoder_put(e, channel->intervals[i].left, channel->intervals[i].width);
    }
}

/* Encode a tile (height, width, channels); `words` has room for three bytes a digit and four words more.
 * Returns the number of words, -1 without memory. */
API int64_t archiver_tile_encode(
    const Network *net, const Tables *tables, int kind, const uint8_t *tile, int height, int width, uint32_t *words) {
    Wavefront w;
    Channel channel;
    Encoder e;
    int64_t n = -1;
    if (!wavefront_start(&w, net, kind, tables, height, width)) return -1;
    if (channel_start(&channel, height, w.port->channels)) {
        const f8 there = components_there(net);
        encoder_start(&e, words);
        for (int t = 0; t < wavefront_groups(&w); t++) {
            const Group g = wavefront_group(&w, t);
            if (!g.lanes) continue; /* tiles one column wide have no pixel in odd groups */
            wavefront_pass(&w, &g, NULL, NULL);
            encode_group(&w, &g, tile, &channel, &e, there);
            wavefront_keep(&w, &g, channel.centred);
        }
        n = (int64_t)encoder_end(&e);
        free(channel.memory);
    }
    wavefront_end(&w);
    return n;
}

/* --- decoding -----------------------------------------------------------------------------------
 *
 * All that does not depend on the point, the counts where a digit probably lies, is computed for a whole group before:
 * then the counts of neighbouring pixels are on their way at once, while a search has to wait for each. */

/* What is known of the digit that holds a place: it is at least `digit`, below `above`. */
typedef struct {
    float origin, scale; /* F before the first digit; FREE_COUNTS over the sum of frequencies */
    uint64_t place;
    int digit, above;
    float start, end;     /* F at the edges of what is known, */
    uint32_t left, right; /* and those edges, of TOTAL */
} Search;

/* Begin between F at the edges of all digits; 0 if the stream is beyond its interval. */
INLINE int search_start(Search *s, Decoder *d, float start, float end) {
    *s = (Search){start, FREE_COUNTS / (end - start + RADIX), decoder_place(d), 0, RADIX, start, end, 0, TOTAL};
    return s->place < TOTAL;
}

/* Learn from F at n digits, `from`, `from` + `by`, ... */
INLINE void search_among(Search *s, f4 counts, int from, int by, int n) {
    for (int i = 0; i < n; i++) {
        const int j = from + i * by;
        if (j <= s->digit) continue;
        if (j >= s->above) break;
        const uint32_t edge = edge_of(counts[i] - s->origin + (float)j, s->scale, j);
        if (edge > s->place) {
            s->above = j;
            s->right = edge;
            s->end = counts[i];
            break;
        }
        s->digit = j;
        s->left = edge;
        s->start = counts[i];
    }
}

/* Find the digit: `first` is the sample value of digit 0, `step` how far the next digit's is.  Takes its interval. */
INLINE int search_end(Search *s, const Tables *t, const Mixture *m, float first, float step, Decoder *d) {
    while (s->above - s->digit > 1) {
        const int by = (s->above - s->digit + 3) / 4, from = s->digit + by;
        const float edge = first + step * (float)from, next = step * (float)by;
        search_among(s, mixture_counts(t, m, (f4){edge, edge + next, edge + 2 * next, edge}), from, by, 3);
    }
    decoder_take(d, s->left, s->right - s->left);
    return s->digit;
}

/* Guess the high digit of a mixture, 1..13: the digit before the first of the four edges that are looked at. */
INLINE int guess_of(const Mixture *m) {
    const float middle = f8_sum(m->weights * m->centres) * (CERTAIN / (64.0f * RADIX)) / m->total;
    return middle < 1.0f ? 1 : middle > 13.0f ? 13 : (int)middle;
}

static int decode_channel(const Wavefront *w, const Group *g, Channel *channel, int c, Decoder *d) {
    const int channels = w->port->channels;
    const Tables *t = w->tables;
    Search s;
    for (int lane = 0; lane < g->lanes; lane++) {
        const int guess = guess_of(&channel->mixtures[lane]);
        const float edge = (float)(guess * RADIX);
        channel->guess[lane] = guess;
        channel->counts[lane] = mixture_counts(t, &channel->mixtures[lane], (f4){edge - RADIX, edge, edge + RADIX, edge + 2 * RADIX});
    }
    for (int lane = 0; lane < g->lanes; lane++) {
        const Mixture *m = &channel->mixtures[lane];
        if (!search_start(&s, d, 0.0f, m->total)) return 0;
        search_among(&s, channel->counts[lane], channel->guess[lane] - 1, 1, 4);
        channel->high[lane] = search_end(&s, t, m, 0.0f, RADIX, d);
        channel->start[lane] = s.start;
        channel->end[lane] = s.end;
    }
    for (int lane = 0; lane < g->lanes; lane++) {
        const float edge = (float)(channel->high[lane] * RADIX);
        channel->counts[lane] = mixture_counts(t, &channel->mixtures[lane], (f4){edge + 4, edge + 8, edge + 12, edge});
    }
    for (int lane = 0; lane < g->lanes; lane++) {
        const float first = (float)(channel->high[lane] * RADIX);
        if (!search_start(&s, d, channel->start[lane], channel->end[lane])) return 0;
        search_among(&s, channel->counts[lane], 4, 4, 3);
        const int low = search_end(&s, t, &channel->mixtures[lane], first, 1.0f, d);
        channel->centred[lane * channels + c] = first + (float)low - 128.0f;
    }
    return 1;
}

static int decode_group(Wavefront *w, const Group *g, uint8_t *tile, Channel *channel, Decoder *d, f8 there) {
    const int channels = w->port->channels;
    for (int c = 0; c < channels; c++) {
        mixtures_of_group(w, g, channel, c, there);
        if (!decode_channel(w, g, channel, c, d)) return 0;
    }
    for (int lane = 0; lane < g->lanes; lane++) {
        const int row = g->first + lane, column = g->group - 2 * row;
        uint8_t *sample = tile + ((size_t)row * w->width + column) * channels;
        for (int c = 0; c < channels; c++) sample[c] = (uint8_t)(channel->centred[lane * channels + c] + 128.0f);
    }
    return 1;
}

/* Decode a tile (height, width, channels) from `bytes` bytes, a multiple of 4.  Returns 1; 0 if the stream is beyond
 * its interval; -1 without memory. */
API int archiver_tile_decode(
    const Network *net, const Tables *tables, int kind, const uint8_t *payload, size_t bytes, uint8_t *tile, int height,
    int width) {
    Wavefront w;
    Channel channel;
    Decoder d;
    int result = -1;
    if (!wavefront_start(&w, net, kind, tables, height, width)) return -1;
    if (channel_start(&channel, height, w.port->channels)) {
        const f8 there = components_there(net);
        decoder_start(&d, payload, bytes);
        result = 1;
        for (int t = 0; result == 1 && t < wavefront_groups(&w); t++) {
            const Group g = wavefront_group(&w, t);
            if (!g.lanes) continue;
            wavefront_pass(&w, &g, NULL, NULL);
            result = decode_group(&w, &g, tile, &channel, &d, there);
            if (result == 1) wavefront_keep(&w, &g, channel.centred);
        }
        free(channel.memory);
    }
    wavefront_end(&w);
    return result;
}

/* --- what the network says ----------------------------------------------------------------------- */

/* Compute, of a tile, base predictions (height, width, channels) and, where not NULL, what the head sees, levels
 * (height, width, dim), and its outputs (height, width, n_outputs).  Returns 1, -1 without memory. */
API int archiver_tile_predict(
    const Network *net, int kind, const uint8_t *tile, int height, int width, float *base, int8_t *levels,
    float *outputs) {
    Wavefront w;
    if (!wavefront_start(&w, net, kind, NULL, height, width)) return -1;
    const int channels = w.port->channels;
    float *centred = malloc(sizeof(float) * height * channels);
    const LevelsOut seen = {&w, levels};
    for (int t = 0; centred && t < wavefront_groups(&w); t++) {
        const Group g = wavefront_group(&w, t);
        if (!g.lanes) continue;
        wavefront_pass(&w, &g, levels ? wavefront_levels : NULL, &seen);
        wavefront_predictions(&w, &g, base, outputs);
        for (int lane = 0; lane < g.lanes; lane++) {
            const int row = g.first + lane, column = g.group - 2 * row;
            const uint8_t *sample = tile + ((size_t)row * width + column) * channels;
            for (int c = 0; c < channels; c++) centred[lane * channels + c] = (float)sample[c] - 128.0f;
        }
        wavefront_keep(&w, &g, centred);
    }
    free(centred);
    wavefront_end(&w);
    return centred ? 1 : -1;
}
