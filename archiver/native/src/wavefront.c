#include "wavefront.h"

#include <stdlib.h>

typedef struct {
    char *next; /* NULL while sizes are summed */
    size_t size;
} Carver;

static void *carve(Carver *c, size_t bytes) {
    const size_t size = (bytes + 2 * 64 + 63) / 64 * 64; /* whole vectors may be read past the last number */
    void *p = c->next ? c->next + c->size : NULL;
    c->size += size;
    return p;
}

static void lay_out(Wavefront *w, Carver *c, int kind) {
    const Network *net = w->net;
    const size_t pixels = (size_t)(ABOVE + w->height) * w->row, lanes = w->height;
    w->planes = carve(c, pixels * w->port->planes * sizeof(level_t));
    w->samples = carve(c, kind == 2 ? 0 : pixels * w->port->channels * sizeof(level_t));
    for (int i = 0; i < net->n_blocks; i++)
        w->rings[i] = carve(c, (size_t)RING * (ABOVE + w->height) * net->dim * sizeof(int16_t));
    w->outputs = carve(c, lanes * w->port->head.columns * sizeof(float));
    w->base = carve(c, lanes * w->port->channels * sizeof(float));
    w->stage.stream = carve(c, CHUNK * net->dim * sizeof(float));
    w->stage.values = carve(c, CHUNK * net->dim * sizeof(float));
    w->stage.levels = carve(c, CHUNK * net->dim * sizeof(level_t));
    w->stage.hidden = carve(c, CHUNK * net->hidden * sizeof(level_t));
}

static void level_zeros(level_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = LEVEL_ZERO;
}

int wavefront_start(Wavefront *w, const Network *net, int kind, const Tables *tables, int height, int width) {
    memset(w, 0, sizeof *w);
    w->net = net;
    w->port = &net->ports[kind];
    w->tables = tables;
    w->height = height;
    w->width = width;
    w->row = width + 2 * SIDE;
    Carver sizes = {NULL, 0};
    lay_out(w, &sizes, kind);
    w->memory = calloc(1, sizes.size + 64);
    if (!w->memory) return 0;
    Carver room = {(char *)(((uintptr_t)w->memory + 63) & ~(uintptr_t)63), 0};
    lay_out(w, &room, kind);
    if (LEVEL_ZERO) {
        const size_t pixels = (size_t)(ABOVE + height) * w->row;
        level_zeros(w->planes, pixels * w->port->planes);
        if (kind != 2) level_zeros(w->samples, pixels * w->port->channels);
    }
    return 1;
}

void wavefront_end(Wavefront *w) { free(w->memory); }

/* Return where the four rows of strict taps of a lane begin, in an array of `size` levels a pixel. */
static Runs runs_of(const Wavefront *w, const Group *g, const level_t *array, int size) {
    Runs runs;
    const ptrdiff_t place = wavefront_place(w, g, 0);
    for (int row = 0; row < 4; row++) runs.first[row] = array + (place + (row - ABOVE) * w->row - SIDE) * size;
    runs.stride = (w->row - 2) * size;
    return runs;
}

static int16_t *ring_row(const Wavefront *w, int block, int group, int row) {
    const size_t slot = (size_t)((group + RING) % RING) * (ABOVE + w->height);
    return w->rings[block] + (slot + ABOVE + row) * w->net->dim;
}

/* Make the rows that ended within the groups kept read as outside. */
static void clear_ended(Wavefront *w, const Group *g) {
    const int from = g->first > RING ? g->first - RING : 0;
    for (int i = 0; i < w->net->n_blocks; i++)
        memset(ring_row(w, i, g->group, from), 0, sizeof(int16_t) * (g->first - from) * w->net->dim);
}

static void find_features(const Wavefront *w, const Group *g, int lane, Features *features) {
    int8_t taps[2 * PAIRS][2];
    network_taps(0, taps);
    for (int i = 0; i < w->net->n_blocks; i++) {
        features[i].now = ring_row(w, i, g->group, g->first + lane);
        for (int t = 0; t < 2 * PAIRS; t++) {
            const int row = taps[t][0], group = g->group + taps[t][1] + 2 * row;
            features[i].seen[t] = ring_row(w, i, group, g->first + lane + row);
        }
    }
}

void wavefront_pass(Wavefront *w, const Group *g, Sink sink, const void *context) {
    const Port *port = w->port;
    clear_ended(w, g);
    if (port != &w->net->ports[2]) { /* of more bits it was predicted before */
        const Runs seen = runs_of(w, g, w->samples, port->channels);
        network_base(port, &seen, g->lanes, w->base);
    }
    const Runs planes = runs_of(w, g, w->planes, port->planes);
    for (int lane = 0; lane < g->lanes; lane += CHUNK) {
        const int n = g->lanes - lane < CHUNK ? g->lanes - lane : CHUNK;
        Features features[MAX_BLOCKS];
        find_features(w, g, lane, features);
        Runs part = planes;
        for (int row = 0; row < 4; row++) part.first[row] += lane * planes.stride;
        network_pass(w->net, port, &part, features, &w->stage, n, w->outputs + (size_t)lane * port->head.columns);
        if (sink) sink(context, g, lane, n, w->stage.levels);
    }
}

static int snapped(float x) { /* to levels */
    const float limited = x < -127.0f ? -127.0f : x > 127.0f ? 127.0f : x;
    return (int)((limited + MAGIC) - MAGIC);
}

void wavefront_keep(Wavefront *w, const Group *g, const float *centred) {
    const int channels = w->port->channels, planes = w->port->planes;
    for (int lane = 0; lane < g->lanes; lane++) {
        const ptrdiff_t place = wavefront_place(w, g, lane);
        level_t *seen = w->planes + place * planes, *samples = w->samples + place * channels;
        for (int c = 0; c < channels; c++) {
            const float x = centred[lane * channels + c], residual = x * 16.0f - w->base[lane * channels + c];
            samples[c] = seen[c] = level_of((int)x);
            seen[channels + c] = level_of(snapped(residual * (1.0f / 8)));
            seen[2 * channels + c] = level_of(snapped(residual * (1.0f / 2)));
        }
        seen[3 * channels] = level_of(64);
    }
}

void wavefront_levels(const void *levels_out, const Group *g, int lane, int n, const level_t *levels) {
    const LevelsOut *out = levels_out;
    const int dim = out->w->net->true_dim, stride = out->w->net->dim;
    for (int i = 0; i < n; i++) {
        const int row = g->first + lane + i, column = g->group - 2 * row;
        int8_t *to = out->levels + ((size_t)row * out->w->width + column) * dim;
        for (int k = 0; k < dim; k++) to[k] = (int8_t)((int)levels[i * stride + k] - LEVEL_ZERO);
    }
}

void wavefront_predictions(const Wavefront *w, const Group *g, float *base, float *outputs) {
    const Port *port = w->port;
    for (int lane = 0; lane < g->lanes; lane++) {
        const int row = g->first + lane, column = g->group - 2 * row;
        const size_t pixel = (size_t)row * w->width + column;
        const float *columns = w->outputs + (size_t)lane * port->head.columns;
        for (int c = 0; c < port->channels; c++) base[pixel * port->channels + c] = w->base[lane * port->channels + c];
        for (int i = 0; outputs && i < port->n_outputs; i++)
            outputs[pixel * port->n_outputs + i] = columns[port->column_of[i]];
    }
}
