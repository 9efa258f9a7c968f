/* Binary decisions of JPEG coefficients: mixed from contexts' probabilities, range-coded, learned from.
 *
 * After PAQ (M. Mahoney, "Adaptive weighing of context models for lossless data compression", 2005).  Whole numbers
 * alone, so that every machine computes the same.  FORMAT.md, section "Coded coefficients", says it in formulas.
 */
#ifndef ARCHIVER_JPEG_MIXING_H
#define ARCHIVER_JPEG_MIXING_H

#include "core.h"

enum {
    JPEG_CONTEXTS = 23, /* of one decision, at most */
    JPEG_LANES = 24,    /* they, after lane 0, which holds the bias: whole vectors */
    JPEG_SLOT_BITS = 18,
    JPEG_SLOTS_SIZE = (3 << JPEG_SLOT_BITS) + 64, /* bytes of a context: what is read as four ends in it */
    JPEG_MIXERS = 3,
    JPEG_SETS = 1376, /* of weights, of each mixer */
    JPEG_BLENDS = 112,
    JPEG_CURVES = 608,
    JPEG_KNOTS = 33, /* of a curve */
};

/* Constant tables, made in Python: `context_mixing` and `blocks` say what they hold. */
typedef struct {
    const int16_t *stretch; /* (4096,): logit of a probability */
    const uint16_t *squash; /* (4095,): probability of a logit from -2047 */
    const int64_t *edges;   /* (2, 8): what a coefficient adds, in 1/1024, at the edge */
    const uint8_t *in_rows; /* (64,): place in row order of a coefficient in zigzag order */
} JpegTables;

/* All that is learned. */
typedef struct {
    uint8_t *slots;   /* (CONTEXTS, SLOTS_SIZE): three bytes each: uses; 16 bits: probability of 1, less a half */
    int32_t *weights; /* (MIXERS, SETS, 2, LANES): of logits, the bias first; of probabilities */
    int32_t *uses;    /* (MIXERS, SETS) */
    int32_t *blends;  /* (BLENDS, MIXERS) */
    int32_t *curves;  /* (2, CURVES, KNOTS) */
} JpegState;

/* One stream: bytes that are written or read, and the interval that they stand for. */
typedef struct {
    uint32_t low, high, value;
    int32_t reads;
    int64_t at, size; /* where the next byte goes, which may be beyond `bytes`; how many those are */
    uint8_t *bytes;
} JpegCoder;

/* What a decision was made of, kept until it is learned from. */
typedef struct {
    _Alignas(32) uint32_t slots[JPEG_LANES];   /* where each begins, from lane 1 */
    _Alignas(32) uint32_t entries[JPEG_LANES]; /* what they held, and the byte after it */
    _Alignas(32) int32_t inputs[2][JPEG_LANES];
    int32_t logits[JPEG_MIXERS];
    int32_t logit;
    int32_t bit;
    int32_t n;                 /* contexts; 0 if there is nothing to learn from */
    int32_t sets[JPEG_MIXERS]; /* weights of each mixer */
    int32_t blend, curves[2];
} JpegDecision;

typedef struct {
    const JpegTables *tables;
    JpegState state;
    JpegCoder coder;
    JpegDecision decisions[2]; /* the one that is prepared, and the one before */
    int now;
} JpegMixing;

/* A context is three numbers: `a` of the decision, and two that many decisions share: what those add to its hash. */
INLINE uint32_t jpeg_hash_first(uint32_t a) { return a * 2654435761u; }
INLINE uint32_t jpeg_hash_others(uint32_t b, uint32_t c) { return b * 2246822519u + c * 3266489917u; }

/* Return the decision to be prepared: its sets, blend and curves are for the caller to fill. */
INLINE JpegDecision *jpeg_prepare(JpegMixing *mixing) { return &mixing->decisions[mixing->now]; }

/* Write `bit`, or read it, under `n` contexts, 10, 17 or 23; return it.
 *
 * `hashes` (LANES) are the contexts' sums of `jpeg_hash_first` and `jpeg_hash_others`, from lane 1.
 */
int jpeg_decide(JpegMixing *mixing, int n, const uint32_t *hashes, int bit);

/* Learn from the last decision. */
void jpeg_settle(JpegMixing *mixing);

/* Whether more was read than a writer leaves away: zeros after a stream go on for ever. */
int jpeg_is_spent(const JpegCoder *coder);

#endif
