/* A network's weights as the products want them, and one pass of some pixels through it. */
#ifndef ARCHIVER_NETWORK_H
#define ARCHIVER_NETWORK_H

#include "product.h"

#define ABOVE 3
#define SIDE 3
#define STRICT_TAPS 22 /* those of earlier groups: 7, 7, 5 and 3 in the four rows */
#define PAIRS 12       /* of the 24 taps that may see their own group: 7, 7, 6 and 4 */
#define RING 10        /* groups kept: the farthest tap is 9 groups back */
#define CHUNK 48       /* pixels that go through all layers at once, in a core's nearest cache */
#define COMPONENTS 8   /* of a mixture at most: one vector, the last ones without weight */
#define KINDS 3        /* ports: grey, rgb, deep */
#define MAX_BLOCKS 16
#define MAX_CHANNELS 3

typedef struct {
    Product features, project, expand, contract;
    int16_t *taps; /* (PAIRS, dim / PAIR_CHANNELS, 2, WIDTH, 2) */
    float *scale, *bias;
} Block;

typedef struct {
    int channels, planes;
    Product base, embed, head;
    int32_t mantissas[STRICT_TAPS]; /* of the base predictor for samples of more than 8 bits */
    int32_t n_outputs;
    int32_t *column_of; /* (n_outputs,) where an output stands among the head's columns */
} Port;

typedef struct {
    int dim, hidden; /* padded */
    int true_dim, n_blocks, mixtures, copies;
    Block blocks[MAX_BLOCKS];
    Port ports[KINDS];
} Network;

/* Room for CHUNK pixels at every stage. */
typedef struct {
    float *stream, *values;
    level_t *levels, *hidden;
} Stage;

/* Where the depth-wise kernel of a block finds what its taps see, for pixel 0; the next pixel's is `dim` further. */
typedef struct {
    int16_t *now; /* its own features go here */
    const int16_t *seen[2 * PAIRS];
} Features;

/* Pass n <= CHUNK pixels from the planes, at `embedded`, to `outputs` (n, head columns); `stage->stream` and
 * `stage->levels` hold then what the head saw.  `features` are one for each block. */
void network_pass(
    const Network *net, const Port *port, const Runs *embedded, const Features *features, const Stage *stage, int n,
    float *outputs);

/* Predict n pixels of 8 bits linearly from the levels at `seen`: base (n, channels) in 1/16 of a sample step. */
void network_base(const Port *port, const Runs *seen, int n, float *base);

/* Return the (row, column) offsets of the causal taps, in row order. */
int network_taps(int strict, int8_t taps[][2]);

#endif
