/* The mixture of one channel of one pixel, and its cumulative counts: FORMAT.md, "Mixture", "Frequencies".
 *
 * Eight components stand side by side; those that a network does not have weigh nothing. */
#ifndef ARCHIVER_MIXTURE_H
#define ARCHIVER_MIXTURE_H

#include "network.h"

#define MIN_SCALE (-80)
#define MAX_SCALE 104
#define REACH 2560 /* entries of the sigmoid table on either side of its middle */
#define CERTAIN 8192.0f

/* The tables of FORMAT.md, as float32. */
typedef struct {
    float sigmoid[2 * REACH + 1];
    float weight[255];
    float inverse_scale[MAX_SCALE - MIN_SCALE + 1];
} Tables;

typedef struct {
    f8 centres, inverse, weights; /* 1/64 step from sample 0 minus 1/2; per 1/64 step; whole numbers */
    float total;                  /* F(256) */
} Mixture;

/* Which of eight components there are: 1 or 0. */
INLINE f8 components_there(const Network *net) {
    f8 there = {0};
    for (int k = 0; k < net->mixtures + net->copies; k++) there[k] = 1.0f;
    return there;
}

INLINE float f8_largest(f8 x) {
    f8 y = f8_max(x, __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3));
    y = f8_max(y, __builtin_shufflevector(y, y, 2, 3, 0, 1, 2, 3, 0, 1));
    return y[0] > y[1] ? y[0] : y[1];
}

INLINE float f8_sum(f8 x) {
    f8 y = x + __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3);
    y = y + __builtin_shufflevector(y, y, 2, 3, 0, 1, 2, 3, 0, 1);
    return y[0] + y[1];
}

/* Return weights, whole numbers up to 256, of logits at `p`. */
INLINE f8 mixture_weights(const Tables *t, const float *p, f8 there) {
    const f8 logits = f8_snap(*(const f8 *)p, 127.0f);
    return f8_lookup(t->weight, f8_whole(f8_all(f8_largest(logits)) - logits)) * there;
}

INLINE f8 mixture_inverse(const Tables *t, const float *p) {
    const float middle = (MIN_SCALE + MAX_SCALE) / 2, reach = (MAX_SCALE - MIN_SCALE) / 2;
    return f8_lookup(t->inverse_scale, f8_whole(f8_snap(*(const f8 *)p - middle, reach) + (middle - MIN_SCALE)));
}

/* Return the mixture of channel c.  `outputs` are the pixel's head columns, `base` and `centred` (C,) the prediction
 * in 1/16 step and the samples minus 128, of which only earlier channels are read; `copied` (J, C) the neighbours. */
INLINE Mixture mixture_of(
    const Network *net, const Tables *t, const float *outputs, const float *base, const float *centred,
    float copied[2][MAX_CHANNELS], int c, f8 there) {
    const float *own = outputs + COMPONENTS * (3 * c + c * (c - 1) / 2);
    Mixture m;
    f8 mean = (f8_snap(*(const f8 *)(own + COMPONENTS) * 8.0f, 4080.0f) + base[c]) * 64.0f;
    for (int earlier = 0; earlier < c; earlier++) {
        const f8 coupling = f8_snap(*(const f8 *)(own + (3 + earlier) * COMPONENTS) * 4.0f, 255.0f);
        mean += coupling * (centred[earlier] * 16.0f - base[earlier]);
    }
    m.centres = f8_snap(mean * (1.0f / 16), 32768.0f);
    for (int j = 0; j < net->copies; j++) {
        float copy = copied[j][c];
        if (c > 0) copy += centred[c - 1] - copied[j][c - 1];
        m.centres[net->mixtures + j] = copy * 64.0f;
    }
    m.centres += 128.5f * 64.0f;
    m.weights = mixture_weights(t, own, there);
    m.inverse = mixture_inverse(t, own + 2 * COMPONENTS);
    m.total = f8_sum(m.weights) * CERTAIN;
    return m;
}

/* Return the terms of F at a sample value: their sum is the count. */
INLINE f8 mixture_terms(const Tables *t, const Mixture *m, float edge) {
    const f8 at = f8_limit((edge * 64.0f - m->centres) * m->inverse, REACH);
    return f8_lookup(t->sigmoid, f8_whole(at) + REACH) * m->weights;
}

typedef float f4 __attribute__((vector_size(16), aligned(4), may_alias));

/* Return F at four sample values. */
INLINE f4 mixture_counts(const Tables *t, const Mixture *m, f4 edges) {
    const f8 a = mixture_terms(t, m, edges[0]), b = mixture_terms(t, m, edges[1]);
    const f8 c = mixture_terms(t, m, edges[2]), d = mixture_terms(t, m, edges[3]);
    const f8 ab = __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
                  __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
    const f8 cd = __builtin_shufflevector(c, d, 0, 2, 8, 10, 4, 6, 12, 14) +
                  __builtin_shufflevector(c, d, 1, 3, 9, 11, 5, 7, 13, 15);
    const f8 all = __builtin_shufflevector(ab, cd, 0, 2, 8, 10, 4, 6, 12, 14) +
                   __builtin_shufflevector(ab, cd, 1, 3, 9, 11, 5, 7, 13, 15);
    return __builtin_shufflevector(all, all, 0, 1, 2, 3) + __builtin_shufflevector(all, all, 4, 5, 6, 7);
}

#endif
