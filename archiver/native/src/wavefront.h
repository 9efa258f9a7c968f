/* A tile on its way through a network, group by group: FORMAT.md, "Order of pixels".
 *
 * A pixel of group t = column + 2 row depends on pixels of smaller groups, at its layers' inputs also on its own group.
 * What encodes and what decodes is the same pass; they differ in where the samples of a group come from.
 *
 *     row 0   0 1 2 3 4 5 ...            the pixels of a group, one a row, are the lanes of a pass
 *     row 1       2 3 4 5 ...
 *     row 2           4 5 ...
 */
#ifndef ARCHIVER_WAVEFRONT_H
#define ARCHIVER_WAVEFRONT_H

#include "mixture.h"

typedef struct {
    const Network *net;
    const Port *port;
    const Tables *tables;
    int height, width;
    ptrdiff_t row;                /* pixels of a row of the planes, with those around */
    level_t *planes;              /* (3 + height, 3 + width + 3, planes) levels; around is zero */
    level_t *samples;             /* (3 + height, 3 + width + 3, channels) samples minus 128, of 8 bits */
    int16_t *rings[MAX_BLOCKS];   /* (RING, 3 + height, dim) features of the last groups */
    float *outputs;               /* (lanes, head columns) of a group */
    float *base;                  /* (lanes, channels) */
    Stage stage;
    void *memory;
} Wavefront;

/* The pixels of a group: lane i is row `first` + i, column `group` - 2 row. */
typedef struct {
    int group, first, lanes;
} Group;

int wavefront_start(Wavefront *w, const Network *net, int kind, const Tables *tables, int height, int width);
void wavefront_end(Wavefront *w);

INLINE int wavefront_groups(const Wavefront *w) { return w->width + 2 * (w->height - 1); }

INLINE Group wavefront_group(const Wavefront *w, int group) {
    int first = group - w->width + 2, end = group / 2 + 1;
    first = first > 0 ? first / 2 : 0;
    if (end > w->height) end = w->height;
    Group g = {group, first, end > first ? end - first : 0};
    return g;
}

/* The place of a lane's pixel among those of the planes. */
INLINE ptrdiff_t wavefront_place(const Wavefront *w, const Group *g, int lane) {
    const ptrdiff_t r = g->first + lane;
    return (ABOVE + r) * w->row + SIDE + g->group - 2 * r;
}

/* Compute the outputs of a group; its base predictions, too, if it has 8 bits, else they are there.  `sink` is told of
 * what the head saw, chunk by chunk, if it is not NULL. */
typedef void (*Sink)(const void *context, const Group *g, int lane, int n, const level_t *levels);
void wavefront_pass(Wavefront *w, const Group *g, Sink sink, const void *context);

/* A sink that keeps what the head saw, (height, width, dim). */
typedef struct {
    const Wavefront *w;
    int8_t *levels;
} LevelsOut;
void wavefront_levels(const void *levels_out, const Group *g, int lane, int n, const level_t *levels);

/* Keep a group's base predictions (height, width, channels), and outputs (height, width, n_outputs) if not NULL. */
void wavefront_predictions(const Wavefront *w, const Group *g, float *base, float *outputs);

/* Keep the samples minus 128 (lanes, channels) of a group, and their planes. */
void wavefront_keep(Wavefront *w, const Group *g, const float *centred);

#endif
