#include "network.h"

#include <stdlib.h>

int network_taps(int strict, int8_t taps[][2]) {
    int n = 0;
    for (int row = -ABOVE; row <= 0; row++)
        for (int column = -SIDE; column <= SIDE; column++)
            if (column + 2 * row <= (strict ? -1 : 0)) {
                taps[n][0] = (int8_t)row;
                taps[n++][1] = (int8_t)column;
            }
    return n;
}

/* --- one pass ---------------------------------------------------------------------------------- */

static void depthwise_gate(
    const Block *b, int dim, const Features *f, const float *values, level_t *levels, int n) {
    for (int part = 0; part < dim; part += PAIR_CHANNELS)
        for (int i = 0; i < n; i++) {
            vi sums[2] = {{0}, {0}};
            const int16_t *w = b->taps + part * 2;
            for (int pair = 0; pair < PAIRS; pair++, w += 2 * dim) {
                const ptrdiff_t at = (ptrdiff_t)i * dim + part;
                pair_add(sums, f->seen[2 * pair] + at, f->seen[2 * pair + 1] + at, w);
            }
            for (int v = 0; v < 2; v++) {
                const int k = part + v * WIDTH;
                const vf gate = vf_exact(vf_of(sums[v]), vf_load(b->scale + k), vf_load(b->bias + k));
                const vf gated = gate * vf_load(values + (ptrdiff_t)i * dim + k);
                sums[v] = vf_whole(vf_limit(gated * (1.0f / 16), 127.0f));
            }
            levels_store(levels + (ptrdiff_t)i * dim + part, sums, 2);
        }
}

static Runs one_run(const level_t *levels, int stride) {
    Runs runs = {{levels}, stride};
    return runs;
}

static void block_pass(const Network *net, const Block *b, const Features *f, const Stage *s, int n) {
    const int dim = net->dim;
    const Runs stream = one_run(s->levels, dim), hidden = one_run(s->hidden, net->hidden);
    const Out features = {s->values, dim, NULL, 0, f->now};
    const Out back = {s->stream, dim, s->levels, dim, NULL}, wide = {s->stream, dim, s->hidden, net->hidden, NULL};
    product(&b->features, &stream, FEATURES, &features, n);
    depthwise_gate(b, dim, f, s->values, s->hidden, n); /* the hidden levels' room is free until they come */
    const Runs gated = one_run(s->hidden, dim);
    product(&b->project, &gated, STREAM_ADD, &back, n);
    product(&b->expand, &stream, HIDDEN, &wide, n);
    product(&b->contract, &hidden, STREAM_ADD, &back, n);
}

void network_pass(
    const Network *net, const Port *port, const Runs *embedded, const Features *features, const Stage *stage, int n,
    float *outputs) {
    const Out start = {stage->stream, net->dim, stage->levels, net->dim, NULL};
    product(&port->embed, embedded, STREAM_START, &start, n);
    for (int i = 0; i < net->n_blocks; i++) block_pass(net, &net->blocks[i], &features[i], stage, n);
    const Runs stream = one_run(stage->levels, net->dim);
    const Out out = {outputs, port->head.columns, NULL, 0, NULL};
    product(&port->head, &stream, OUTPUTS, &out, n);
}

void network_base(const Port *port, const Runs *seen, int n, float *base) {
    const int columns = port->base.columns, channels = port->channels;
    float sums[CHUNK * WIDTH * 2];
    const Out out = {sums, columns, NULL, 0, NULL};
    for (int first = 0; first < n; first += CHUNK) {
        const int some = n - first < CHUNK ? n - first : CHUNK;
        Runs part = *seen;
        for (int run = 0; run < port->base.runs; run++) part.first[run] += first * seen->stride;
        product(&port->base, &part, OUTPUTS, &out, some);
        for (int i = 0; i < some; i++)
            for (int c = 0; c < channels; c++) { /* weights have 11 bits: 16 high + low, in 1/64 of a 1/16 step */
                const float x = (sums[i * columns + c] * 16 + sums[i * columns + 4 + c]) * (1.0f / 64);
                const float limited = x < -2048.0f ? -2048.0f : x > 2048.0f ? 2048.0f : x;
                base[(first + i) * channels + c] = (limited + MAGIC) - MAGIC;
            }
    }
}

/* --- weights ------------------------------------------------------------------------------------ */

static int padded(int n, int to) { return (n + to - 1) / to * to; }

static void *room(size_t bytes) {
    const size_t size = (bytes + 127) / 64 * 64; /* whole vectors may be read past the last number */
    void *p = aligned_alloc(64, size);
    return p ? memset(p, 0, size) : NULL;
}

/* Make room for a product of `columns` columns and runs of `lengths` levels; 0 without memory. */
static int product_room(Product *p, int columns, const int *lengths, int runs) {
    p->columns = padded(columns, WIDTH);
    p->runs = runs;
    p->depth = 0;
    for (int r = 0; r < runs; r++) {
        p->run_groups[r] = padded(lengths[r], GROUP) / GROUP;
        p->depth += p->run_groups[r] * GROUP;
    }
    p->weights = room(sizeof(weight_t) * (size_t)p->columns * p->depth);
    p->start = room(sizeof(int32_t) * p->columns);
    p->scale = room(sizeof(float) * p->columns);
    p->bias = room(sizeof(float) * p->columns);
    return p->weights && p->start && p->scale && p->bias;
}

/* Set one column's weight for the level at `place` of all runs' groups. */
static void set_weight(Product *p, int column, int place, int weight) {
    const int block = column / BLOCK * BLOCK, width = p->columns - block < BLOCK ? p->columns - block : BLOCK;
    const size_t at = (size_t)(place / GROUP) * width * GROUP + (column - block) * GROUP + place % GROUP;
    p->weights[(size_t)block * p->depth + at] = (weight_t)weight;
    p->start[column] -= LEVEL_ZERO * weight;
}

/* Fill one column from a layer's row: `weights` (length of all runs,), in the order of the runs. */
static void set_column(Product *p, int column, const int *lengths, const int8_t *weights, float scale, float bias) {
    int place = 0;
    for (int run = 0; run < p->runs; run++) {
        for (int k = 0; k < lengths[run]; k++) set_weight(p, column, place + k, *weights++);
        place += p->run_groups[run] * GROUP;
    }
    p->scale[column] = scale;
    p->bias[column] = bias;
}

/* A layer as a model file holds it: whole-number weights (n_out, n_in), powers of two and biases in levels (n_out,). */
typedef struct {
    const int8_t *weights;
    const float *scale, *bias;
    int32_t n_in, n_out;
} Layer;

static void set_rows(Product *p, int column, const Layer *layer) {
    const int n_in = layer->n_in;
    for (int i = 0; i < layer->n_out; i++)
        set_column(p, column + i, &n_in, layer->weights + (size_t)i * n_in, layer->scale[i], layer->bias[i]);
}

API Network *archiver_network_new(int dim, int hidden, int n_blocks, int mixtures, int copies) {
    if (dim < 1 || dim > 1024 || hidden < 1 || hidden > 8192 || n_blocks < 0 || n_blocks > MAX_BLOCKS) return NULL;
    if (mixtures < 1 || copies < 0 || copies > 2 || mixtures + copies > COMPONENTS) return NULL;
    Network *net = room(sizeof(Network));
    if (!net) return NULL;
    net->true_dim = dim;
    net->dim = padded(dim, PAIR_CHANNELS);
    net->hidden = padded(hidden, PAIR_CHANNELS);
    if (net->hidden < net->dim) net->hidden = net->dim; /* gated values share its room */
    net->n_blocks = n_blocks;
    net->mixtures = mixtures;
    net->copies = copies;
    return net;
}

static void product_free(Product *p) {
    free(p->weights);
    free(p->start);
    free(p->scale);
    free(p->bias);
}

API void archiver_network_free(Network *net) {
    if (!net) return;
    for (int i = 0; i < MAX_BLOCKS; i++) {
        Block *b = &net->blocks[i];
        product_free(&b->features), product_free(&b->project), product_free(&b->expand), product_free(&b->contract);
        free(b->taps), free(b->scale), free(b->bias);
    }
    for (int i = 0; i < KINDS; i++) {
        Port *p = &net->ports[i];
        product_free(&p->base), product_free(&p->embed), product_free(&p->head);
        free(p->column_of);
    }
    free(net);
}

static int is_layer(const Layer *layer, int n_in, int n_out) { return layer->n_in == n_in && layer->n_out == n_out; }

/* The depth-wise layer is (dim, 24 taps). */
static int set_taps(const Network *net, Block *b, const Layer *layer) {
    const int dim = net->dim;
    b->taps = room(sizeof(int16_t) * PAIRS * 2 * dim);
    b->scale = room(sizeof(float) * dim);
    b->bias = room(sizeof(float) * dim);
    if (!b->taps || !b->scale || !b->bias) return 0;
    for (int k = 0; k < layer->n_out; k++) {
        b->scale[k] = layer->scale[k];
        b->bias[k] = layer->bias[k];
        for (int tap = 0; tap < 2 * PAIRS; tap++) {
            const int part = k / PAIR_CHANNELS * PAIR_CHANNELS;
            const size_t at = (size_t)(tap / 2) * 2 * dim + part * 2 + (k - part) * 2 + tap % 2;
            b->taps[at] = layer->weights[k * 2 * PAIRS + tap];
        }
    }
    return 1;
}

/* Set block `at` from its layers: attend, value, depth-wise, project, expand, contract; 0 if they do not fit. */
API int archiver_network_block(Network *net, int at, const Layer layers[6]) {
    if (at < 0 || at >= net->n_blocks || net->blocks[at].taps) return 0;
    Block *b = &net->blocks[at];
    const int d = net->true_dim, wide = layers[4].n_out, dim = net->dim, hidden = net->hidden;
    if (!is_layer(&layers[0], d, d) || !is_layer(&layers[1], d, d) || !is_layer(&layers[2], 2 * PAIRS, d) ||
        !is_layer(&layers[3], d, d) || !is_layer(&layers[4], d, wide) || !is_layer(&layers[5], wide, d) ||
        wide > hidden)
        return 0;
    if (!product_room(&b->features, 2 * dim, &dim, 1) || !product_room(&b->project, dim, &dim, 1) ||
        !product_room(&b->expand, hidden, &dim, 1) || !product_room(&b->contract, dim, &hidden, 1) ||
        !set_taps(net, b, &layers[2]))
        return 0;
    for (int place = 0; place < dim; place++) { /* features are kept in the order that the depth-wise kernel wants */
        const int k = place / PAIR_CHANNELS * PAIR_CHANNELS + kept_channel(place % PAIR_CHANNELS);
        if (k < d) set_column(&b->features, place, &d, layers[0].weights + k * d, layers[0].scale[k], layers[0].bias[k]);
    }
    set_rows(&b->features, dim, &layers[1]);
    set_rows(&b->project, 0, &layers[3]);
    set_rows(&b->expand, 0, &layers[4]);
    set_rows(&b->contract, 0, &layers[5]);
    return 1;
}

static int n_couplings(int channels) { return channels * (channels - 1) / 2; }

/* The head's columns: for every channel eight of logits, means, scales, and of each coupling (`mixture.h`).  An output
 * of the model file's order is found in `column_of`. */
static int set_head(const Network *net, Port *port, const Layer *head) {
    const int channels = port->channels, n = net->mixtures, copies = net->copies, couplings = n_couplings(channels);
    const int columns = COMPONENTS * (3 * channels + couplings), dim = net->dim;
    port->n_outputs = n * (3 * channels + couplings) + 2 * copies * channels;
    port->column_of = room(sizeof(int32_t) * port->n_outputs);
    if (!is_layer(head, net->true_dim, port->n_outputs) || !port->column_of ||
        !product_room(&port->head, columns, &dim, 1))
        return 0;
    for (int c = 0; c < channels; c++) {
        const int first = COMPONENTS * (3 * c + n_couplings(c)), end = n * (3 * channels + couplings);
        for (int row = 0; row < 3; row++)
            for (int k = 0; k < n; k++) port->column_of[(row * channels + c) * n + k] = first + row * COMPONENTS + k;
        for (int earlier = 0; earlier < c; earlier++)
            for (int k = 0; k < n; k++)
                port->column_of[(3 * channels + n_couplings(c) + earlier) * n + k] =
                    first + (3 + earlier) * COMPONENTS + k;
        for (int j = 0; j < copies; j++) {
            port->column_of[end + c * copies + j] = first + n + j;
            port->column_of[end + (channels + c) * copies + j] = first + 2 * COMPONENTS + n + j;
        }
        for (int k = n + copies; k < COMPONENTS; k++) port->head.bias[first + k] = -127.0f; /* never the largest */
    }
    for (int i = 0; i < port->n_outputs; i++)
        set_column(
            &port->head, port->column_of[i], &net->true_dim, head->weights + (size_t)i * net->true_dim,
            head->scale[i], head->bias[i]);
    return 1;
}

/* Set port `kind` (0 grey, 1 rgb, 2 deep) from its layers embed and head, and the base predictor's mantissas, whole
 * numbers of 11 bits (channels, 22 taps, channels); 0 if they do not fit. */
API int archiver_network_port(Network *net, int kind, const Layer layers[2], const int16_t *base) {
    if (kind < 0 || kind >= KINDS || net->ports[kind].channels) return 0;
    Port *port = &net->ports[kind];
    const int channels = kind == 1 ? 3 : 1, planes = 3 * channels + 1;
    const int runs[4] = {7 * planes, 7 * planes, 5 * planes, 3 * planes};
    const int sample_runs[4] = {7 * channels, 7 * channels, 5 * channels, 3 * channels};
    port->channels = channels;
    port->planes = planes;
    if (!is_layer(&layers[0], STRICT_TAPS * planes, net->true_dim)) return 0;
    if (!product_room(&port->embed, net->dim, runs, 4) || !product_room(&port->base, 8, sample_runs, 4) ||
        !set_head(net, port, &layers[1]))
        return 0;
    for (int i = 0; i < net->true_dim; i++)
        set_column(
            &port->embed, i, runs, layers[0].weights + (size_t)i * STRICT_TAPS * planes, layers[0].scale[i],
            layers[0].bias[i]);
    for (int c = 0; c < channels; c++) {
        int8_t high[STRICT_TAPS * MAX_CHANNELS], low[STRICT_TAPS * MAX_CHANNELS];
        for (int k = 0; k < STRICT_TAPS * channels; k++) {
            const int w = base[c * STRICT_TAPS * channels + k];
            high[k] = (int8_t)(w >> 4);
            low[k] = (int8_t)(w & 15);
        }
        set_column(&port->base, c, sample_runs, high, 1.0f, 0.0f);
        set_column(&port->base, 4 + c, sample_runs, low, 1.0f, 0.0f);
    }
    for (int tap = 0; tap < STRICT_TAPS; tap++) port->mantissas[tap] = base[tap];
    return 1;
}

API int archiver_network_has(const Network *net, int kind) {
    return kind >= 0 && kind < KINDS && net->ports[kind].channels > 0;
}
