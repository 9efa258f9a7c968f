/* What a decision on a JPEG coefficient depends on: neighbours, edges, other components, so far.
 *
 * A block is coded from its last nonzero coefficient (zigzag order) to its DC.  FORMAT.md, "Coded coefficients".
 */
#ifndef ARCHIVER_JPEG_CONTEXTS_H
#define ARCHIVER_JPEG_CONTEXTS_H

#include "jpeg_mixing.h"

enum { SIDE = 8, BLOCK = 64 };

enum { ZERO, SIGN, CLASS, MANTISSA }; /* stages of a number */

/* One component that is coded, as Python gives it. */
typedef struct {
    int64_t rows, columns;
    int64_t component;     /* at most 3 */
    int64_t others;        /* how many it may look at, at most 2 */
    const int16_t *first;  /* (rows, columns, 64), zigzag order: the first component, with others > 0 */
    const int16_t *second; /* the one before, where that is the second, with others > 1 */
    const int64_t *steps;  /* (64,), zigzag order, 1 to 65535 */
    int16_t *blocks;       /* (rows, columns, 64), zigzag order; written if the coder reads */
} JpegPlane;

/* What is known of a block that was coded. */
typedef struct {
    int16_t values[BLOCK]; /* row order */
    int32_t end;           /* place of its last AC coefficient that is not 0, zigzag order */
    int32_t sum;           /* of AC magnitudes */
} Known;

typedef struct {
    int64_t below[2][SIDE]; /* what lies at the lower edge of a block, by horizontal frequency */
} Edge;

/* A number by which another is divided, and its inverse. */
typedef struct {
    int64_t by;
    double inverse;
} Divisor;

/* Signed facts of a coefficient, on their scales: predictions, _ON those that go on like two samples; neighbours. */
enum {
    UP, ACROSS, UP_ON, ACROSS_ON, MEAN, MEAN_ON, MEAN4, MEAN_ON4, LEFT, ABOVE, FIRST, SECOND, FIRST4, SECOND4, N_SIGNED
};

/* A component while it is coded, and the block that is.  Of rows the last three are kept, with two columns more to
 * the left and one to the right that stay empty. */
typedef struct {
    JpegPlane plane;
    uint8_t in_rows[BLOCK];
    int64_t edges[2][SIDE];
    Divisor vertical[BLOCK][2], horizontal[BLOCK][2]; /* by zigzag place: of `above`, of `left` */
    Known *rows[3];           /* this row, the one above, the one above that: (columns + 3,), [0] is column -2 */
    Edge *edge_above;         /* (columns,) */
    int64_t right[2][SIDE];   /* at the right edge of the block before, by vertical frequency */
    int32_t row, column;

    /* the block: what is missing at its upper, its left edge, as far as it is known, to go on like its neighbours */
    int64_t above[2][SIDE], left[2][SIDE];
    _Alignas(32) int32_t near[BLOCK];   /* weighed magnitudes of the like coefficients of six blocks, row order */
    _Alignas(32) int32_t around[BLOCK]; /* magnitudes of like frequencies of the two blocks beside it, row order */
    int32_t inside[10][10]; /* weighed magnitudes of higher frequencies, [1][1] is DC */
    int32_t seen[9][9];     /* magnitudes, by frequency; last row and column stay empty */
    int32_t count, sum;     /* nonzeros so far, their magnitudes */
    int32_t end;
    int32_t off[2], of[2];  /* how far the other components are off, and their magnitudes, so far */
    int32_t end_left, mean_end, both_sums;

    /* the coefficient */
    int32_t k, guess;
    int32_t others[2]; /* of the other components */
    int32_t signed_[N_SIGNED];
    int32_t near_log, inside_log, around_log, both_log, spread, slope;
    _Alignas(32) uint32_t hashes[JPEG_LANES]; /* of contexts, without the decision */
} Scene;

/* Find what a block, of which nothing is known yet, lies in; lay out the contexts of its end. */
void jpeg_look_around(Scene *scene, int row, int column);

/* Code one bit of the place of the last nonzero coefficient. */
int jpeg_decide_end(const Scene *scene, JpegMixing *mixing, int place, int node, int bit);

/* Find the magnitudes beside a block that has AC coefficients. */
void jpeg_look_beside(Scene *scene);

/* Find what is known of coefficient `k` before it is coded; of DC the guess it is coded as a difference to. */
void jpeg_look(Scene *scene, int k);

/* Have the contexts ready: magnitudes for the first stage, later seen along the sign, 1 or -1. */
void jpeg_lay(Scene *scene, int stage, int sign);

/* Code one decision on a coefficient; `node` is its number, below 32. */
int jpeg_decide_number(const Scene *scene, JpegMixing *mixing, int stage, int node, int bit);

/* Take a coefficient into account for those that follow in its block. */
void jpeg_know(Scene *scene, int k, int value);

/* Keep a block for those that follow. */
void jpeg_finish(Scene *scene, const int16_t *block);

#endif
