/* Matrix products of levels and weights, with what follows each of them.
 *
 * Weights are packed once: for every block of BLOCK columns, GROUP rows at a time, (rows / GROUP, BLOCK, GROUP).  The
 * levels of a pixel may lie in several runs (`Runs`): the neighbourhood of an embedding is four rows of its planes. */
#ifndef ARCHIVER_PRODUCT_H
#define ARCHIVER_PRODUCT_H

#include "vector.h"

#if WIDTH == 16
#define BLOCK_VECTORS 4
#define PIXELS_AT_ONCE 6
#else
#define BLOCK_VECTORS 2
#define PIXELS_AT_ONCE 4
#endif
#define BLOCK (BLOCK_VECTORS * WIDTH)
#define MAX_RUNS 4

typedef struct {
    int columns, depth; /* padded: whole blocks of columns; whole groups of levels, all runs together */
    int run_groups[MAX_RUNS];
    int runs;
    weight_t *weights;
    int32_t *start; /* (columns,) what sums begin with */
    float *scale, *bias;
} Product;

/* Where the levels of pixel 0 begin in each run, and how far the next pixel's are. */
typedef struct {
    const level_t *first[MAX_RUNS];
    ptrdiff_t stride;
} Runs;

/* Sum the products of `pixels` pixels and `vectors` vectors of columns. */
INLINE void product_sums(
    const Product *p, const Runs *in, int pixel, int column, int pixels, int vectors, vi sums[][BLOCK_VECTORS]) {
    const weight_t *w = p->weights + (size_t)column * p->depth;
    const int width = p->columns - column < BLOCK ? p->columns - column : BLOCK;
    for (int i = 0; i < pixels; i++)
        for (int v = 0; v < vectors; v++) sums[i][v] = *(const vi *)(p->start + column + v * WIDTH);
    for (int run = 0; run < p->runs; run++) {
        const level_t *x = in->first[run] + pixel * in->stride;
        for (int g = 0; g < p->run_groups[run]; g++, w += width * GROUP) {
            vi weights[BLOCK_VECTORS];
            for (int v = 0; v < vectors; v++) weights[v] = *(const vi *)(w + v * WIDTH * GROUP);
            for (int i = 0; i < pixels; i++) {
                vi levels = levels_all(x + i * in->stride + g * GROUP);
                for (int v = 0; v < vectors; v++) sums[i][v] = dot(sums[i][v], levels, weights[v]);
            }
        }
    }
}

/* What becomes of the scaled sums y of a product. */
typedef enum {
    STREAM_START, /* stream = y; levels of it */
    STREAM_ADD,   /* stream = stream + y within its range; levels of it */
    FEATURES,     /* first half: activated, kept for the depth-wise kernel; second half: values */
    HIDDEN,       /* activated levels */
    OUTPUTS,      /* y as it is */
} Step;

typedef struct {
    float *floats;   /* stream, values or outputs: (pixels, floats_stride) */
    int floats_stride;
    level_t *levels; /* (pixels, levels_stride) */
    int levels_stride;
    int16_t *kept;   /* of FEATURES: (pixels, columns / 2) */
} Out;

#define STREAM_LIMIT 2048.0f

/* Hard swish, at most 127; it is never below -8. */
INLINE vf swish(vf x) {
    const vf gate = vf_exact(x, vf_all(1.0f / 64), vf_all(0.5f));
    return vf_min(vf_max(vf_min(gate, vf_all(1.0f)), vf_all(0.0f)) * x, vf_all(127.0f));
}

/* Take `vectors` vectors of one pixel's sums from `column` on. */
INLINE void product_finish(
    const Product *p, Step step, const Out *out, int pixel, int column, int vectors, const vi *sums) {
    float *floats = out->floats + (ptrdiff_t)pixel * out->floats_stride;
    level_t *levels = out->levels + (ptrdiff_t)pixel * out->levels_stride + column;
    vi whole[BLOCK_VECTORS];
    const int dim = p->columns / 2;
    for (int v = 0; v < vectors; v++) {
        const int k = column + v * WIDTH;
        const vf y = vf_exact(vf_of(sums[v]), vf_load(p->scale + k), vf_load(p->bias + k));
        if (step == STREAM_START || step == STREAM_ADD) {
            const vf h = step == STREAM_ADD ? vf_limit(vf_load(floats + k) + y, STREAM_LIMIT) : y;
            vf_store(floats + k, h);
            whole[v] = vf_whole(vf_limit(h, 127.0f));
        } else if (step == HIDDEN || (step == FEATURES && k < dim)) {
            whole[v] = vf_whole(swish(y));
        } else {
            vf_store(floats + k - (step == FEATURES ? dim : 0), y);
        }
    }
    if (step == FEATURES && column < dim) { /* a block of columns may end among the values */
        const int kept = (dim - column) / WIDTH < vectors ? (dim - column) / WIDTH : vectors;
        int16_t *to = out->kept + (ptrdiff_t)pixel * dim + column;
        if (kept == vectors)
            halves_store(to, whole, vectors);
        else
            for (int v = 0; v < kept; v++) halves_store(to + v * WIDTH, whole + v, 1);
    }
    if (step == STREAM_START || step == STREAM_ADD || step == HIDDEN) levels_store(levels, whole, vectors);
}

INLINE void product_part(
    const Product *p, const Runs *in, Step step, const Out *out, int pixel, int column, int pixels, int vectors) {
    vi sums[PIXELS_AT_ONCE][BLOCK_VECTORS];
    product_sums(p, in, pixel, column, pixels, vectors, sums);
    for (int i = 0; i < pixels; i++) product_finish(p, step, out, pixel + i, column, vectors, sums[i]);
}

INLINE void product_pixels(const Product *p, const Runs *in, Step step, const Out *out, int n, int column, int vectors) {
    int pixel = 0;
    for (; pixel + PIXELS_AT_ONCE <= n; pixel += PIXELS_AT_ONCE)
        product_part(p, in, step, out, pixel, column, PIXELS_AT_ONCE, vectors);
    for (; pixel + 2 <= n; pixel += 2) product_part(p, in, step, out, pixel, column, 2, vectors);
    if (pixel < n) product_part(p, in, step, out, pixel, column, 1, vectors);
}

/* Compute one product of n pixels, and its step. */
INLINE void product(const Product *p, const Runs *in, Step step, const Out *out, int n) {
    int column = 0;
    for (; column + BLOCK <= p->columns; column += BLOCK) product_pixels(p, in, step, out, n, column, BLOCK_VECTORS);
#if BLOCK_VECTORS == 4
    const int rest = (p->columns - column) / WIDTH;
    if (rest == 3) product_pixels(p, in, step, out, n, column, 3);
    if (rest == 2) product_pixels(p, in, step, out, n, column, 2);
    if (rest == 1) product_pixels(p, in, step, out, n, column, 1);
#else
    if (column < p->columns) product_pixels(p, in, step, out, n, column, 1);
#endif
}

#endif
