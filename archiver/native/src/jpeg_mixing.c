/* Binary decisions of JPEG coefficients; see jpeg_mixing.h.
 *
 * Bounds: a slot is a hash shifted to SLOT_BITS, and each context has some bytes more than its slots; sets, blends and
 * curves are bounded where contexts are laid out (jpeg_contexts.c); a logit is clamped before it selects a knot or a
 * probability; counts stop at MOST_COUNT.
 */
#include "jpeg_mixing.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "slots are read with their lowest byte first");

enum {
    ONE = 1 << 16,        /* a probability, or a weight, of 1 */
    MOST_LOGIT = 2047,    /* in 1/256 */
    MOST_COUNT = 127,     /* uses of a slot, after which it learns at the same rate */
    MOST_TRUST = 31,      /* uses, after which it is trusted no more than before */
    MOST_USES = 305,      /* after which a mixer's rate stays the same */
    LEAST = 24,           /* the surest that a decision can be */
    MOST_ZEROS = 1 << 12, /* bytes that a writer may leave away at the end */
};

INLINE int32_t clamp_logit(int64_t x) {
    return x < -MOST_LOGIT ? -MOST_LOGIT : x > MOST_LOGIT ? MOST_LOGIT : (int32_t)x;
}

/* Contexts that are worked on at once: vectors of 8, with the bias. */
INLINE int lanes_of(int n) { return (n + 8) & ~7; }

INLINE int32_t *weights_of(const JpegMixing *mixing, int m, int set) {
    return mixing->state.weights + (size_t)(m * JPEG_SETS + set) * 2 * JPEG_LANES;
}

/* How far a slot that was used so often is trusted: 645 n + 2 over 10 n + 6, rounded down.
 *
 * As a quotient of floats it is exact: one that is not whole lies farther from a whole number than rounding moves it.
 */
INLINE int32_t trust_in(int32_t count) {
    count = count < MOST_TRUST ? count : MOST_TRUST;
    return (int32_t)((float)(645 * count + 2) / (float)(10 * count + 6));
}

/* What share, of 2^16, of what is new a slot takes that was used so often: 5/(5 n + 9), exact for the same reason. */
INLINE uint32_t share_of(int32_t count) { return (uint32_t)(int32_t)((float)(5 * ONE) / (float)(5 * count + 9)); }

/* Find the slots, and have them and the weights brought near: they lie all over megabytes. */
INLINE void find_slots(const JpegMixing *mixing, JpegDecision *restrict now, int n, const uint32_t *restrict hashes) {
    const uint8_t *slots = mixing->state.slots;
    for (int i = 0; i < lanes_of(n); i++) {
        uint32_t h = hashes[i];
        h = (h ^ h >> 15) * 2246822519u;
        now->slots[i] = 3 * ((h ^ h >> 13) >> (32 - JPEG_SLOT_BITS)) + (uint32_t)(i - 1) * JPEG_SLOTS_SIZE;
    }
    for (int i = 1; i <= n; i++) __builtin_prefetch(slots + now->slots[i], 1);
    for (int m = 0; m < JPEG_MIXERS; m++)
        for (int i = 0; i < 2 * JPEG_LANES; i += 16) __builtin_prefetch(weights_of(mixing, m, now->sets[m]) + i, 1);
}

/* Fill the inputs: of each context its logit, and its probability less a half; of lanes without one zeros.
 *
 * A slot is read, and later written, as four bytes; the last is the next one's, which nothing changes meanwhile.
 */
INLINE void gather(const JpegMixing *mixing, JpegDecision *restrict now, int n) {
    const uint8_t *slots = mixing->state.slots;
    const int16_t *stretch = mixing->tables->stretch;
    _Alignas(32) int32_t trust[JPEG_LANES], of_table[JPEG_LANES], logits[JPEG_LANES];
    for (int i = n + 1; i < lanes_of(n); i++) now->entries[i] = 0;
    now->entries[0] = 0;
    for (int i = 1; i <= n; i++) memcpy(now->entries + i, slots + now->slots[i], sizeof *now->entries);
    for (int i = 0; i < lanes_of(n); i++) {
        int32_t chance = (int32_t)(now->entries[i] << 8) >> 16;
        trust[i] = trust_in(now->entries[i] & MOST_COUNT);
        of_table[i] = (chance + 32768) >> 4;
        now->inputs[1][i] = (chance * trust[i]) >> 11;
    }
    for (int i = 0; i < lanes_of(n); i++) logits[i] = stretch[of_table[i]];
    for (int i = 0; i < lanes_of(n); i++) now->inputs[0][i] = (logits[i] * trust[i]) >> 6;
    now->inputs[0][0] = 256; /* the bias */
}

/* Add up products, two by two as processors multiply 32 bits: exact, as a hostile stream may teach any weights. */
INLINE int64_t dot(const int32_t *x, const int32_t *w, int n) {
    int64_t even = 0, odd = 0;
    for (int i = 0; i < n / 2; i++) {
        uint64_t two_x, two_w;
        memcpy(&two_x, x + 2 * i, sizeof two_x);
        memcpy(&two_w, w + 2 * i, sizeof two_w);
        even += (int64_t)(int32_t)two_x * (int32_t)two_w;
        odd += (int64_t)(int32_t)(two_x >> 32) * (int32_t)(two_w >> 32);
    }
    return even + odd;
}

/* Find the logit of 1 that the mixers agree on. */
INLINE void mix(const JpegMixing *mixing, JpegDecision *now, int n) {
    const int32_t *blend = mixing->state.blends + now->blend * JPEG_MIXERS;
    int64_t total = 0;
    for (int m = 0; m < JPEG_MIXERS; m++) {
        const int32_t *weights = weights_of(mixing, m, now->sets[m]);
        int64_t sum = dot(now->inputs[0], weights, lanes_of(n));
        sum += dot(now->inputs[1], weights + JPEG_LANES, lanes_of(n));
        now->logits[m] = clamp_logit(sum >> 16);
        total += (int64_t)now->logits[m] * blend[m];
    }
    now->logit = clamp_logit(total >> 16);
}

/* Write `bit`, or read it, of which `chance`/2^16 is the probability of 1. */
INLINE int code(JpegCoder *coder, int bit, uint32_t chance) {
    uint32_t span = coder->high - coder->low;
    uint32_t middle = coder->low + (span >> 16) * chance + ((span & 0xFFFF) * chance >> 16);
    if (coder->reads) bit = coder->value <= middle;
    coder->high = bit ? middle : coder->high;
    coder->low = bit ? coder->low : middle + 1;
    while ((coder->low ^ coder->high) >> 24 == 0) {
        if (coder->reads) {
            coder->value = coder->value << 8 | (coder->at < coder->size ? coder->bytes[coder->at] : 0);
        } else if (coder->at < coder->size) { /* beyond, only counted */
            coder->bytes[coder->at] = (uint8_t)(coder->high >> 24);
        }
        coder->at++;
        coder->low <<= 8;
        coder->high = coder->high << 8 | 255;
    }
    return bit;
}

/* Move the weights, and the shares of the mixers, towards what would have been better. */
INLINE void learn_weights(JpegMixing *mixing, const JpegDecision *last, int n) {
    const uint16_t *squash = mixing->tables->squash + MOST_LOGIT;
    int32_t target = last->bit << 16;
    int32_t *blend = mixing->state.blends + last->blend * JPEG_MIXERS;
    int32_t of_all = (target - squash[last->logit]) * 3;
    for (int m = 0; m < JPEG_MIXERS; m++) {
        int32_t *uses = mixing->state.uses + m * JPEG_SETS + last->sets[m];
        *uses += *uses < MOST_USES;
        int32_t rate = 4 + 320 / (16 + *uses);
        int32_t error = ((target - squash[last->logits[m]]) * rate) >> 6;
        int32_t *weights = weights_of(mixing, m, last->sets[m]);
        /* inputs are below 2^11, errors below 2^15; weights may wrap, as those of a hostile stream would */
        for (int half = 0; half < 2; half++, weights += JPEG_LANES)
            for (int i = 0; i < lanes_of(n); i++)
                weights[i] = (int32_t)((uint32_t)weights[i] + (uint32_t)((last->inputs[half][i] * error + 2048) >> 12));
        blend[m] += (last->logits[m] * of_all + (1 << 17)) >> 18;
    }
}

/* Move what the slots hold towards what came: the less, the more they have seen.
 *
 * A difference times a share, below 0.56, has 32 bits without a sign: hence two cases.
 */
INLINE void learn_slots(const JpegMixing *mixing, JpegDecision *restrict last, int n) {
    uint8_t *slots = mixing->state.slots;
    uint32_t flip = last->bit ? UINT32_MAX : 0, plus = last->bit ? ONE + 1 : 0; /* distance: ONE - chance, or chance */
    uint32_t more = last->bit ? 0 : ONE - 1;                                    /* away from zero, where it goes down */
    for (int i = 0; i < lanes_of(n); i++) {
        uint32_t entry = last->entries[i], count = entry & MOST_COUNT, chance = (entry >> 8 & 0xFFFF) ^ 0x8000;
        uint32_t distance = (chance ^ flip) + plus;
        uint32_t step = (distance * share_of((int32_t)count) + more) >> 16;
        chance += (step ^ ~flip) - ~flip;
        last->entries[i] = (entry & 0xFF000000) | (chance ^ 0x8000) << 8 | (count + (count < MOST_COUNT));
    }
    for (int i = 1; i <= n; i++) memcpy(slots + last->slots[i], last->entries + i, sizeof *last->entries);
}

INLINE void learn(JpegMixing *mixing, JpegDecision *last, int n) {
    learn_weights(mixing, last, n);
    learn_slots(mixing, last, n);
}

void jpeg_settle(JpegMixing *mixing) {
    JpegDecision *last = &mixing->decisions[mixing->now ^ 1];
    if (last->n == 10) learn(mixing, last, 10);
    if (last->n == 17) learn(mixing, last, 17);
    if (last->n == 23) learn(mixing, last, 23);
    last->n = 0;
}

/* Decide: what the mixers say is corrected by two curves, which learn as soon as the bit is known. */
INLINE int decide(JpegMixing *mixing, int n, const uint32_t *hashes, int bit) {
    JpegDecision *now = jpeg_prepare(mixing);
    find_slots(mixing, now, n, hashes);
    jpeg_settle(mixing); /* meanwhile, the slots come */
    gather(mixing, now, n);
    mix(mixing, now, n);
    int knot = (now->logit + 2048) >> 7, beyond = (now->logit + 2048) & 127;
    int32_t *first = mixing->state.curves + now->curves[0] * JPEG_KNOTS + knot;
    int32_t *second = mixing->state.curves + (JPEG_CURVES + now->curves[1]) * JPEG_KNOTS + knot;
    int32_t corrected = (first[0] * (128 - beyond) + first[1] * beyond) >> 7;
    corrected += (second[0] * (128 - beyond) + second[1] * beyond) >> 7;
    int32_t chance = (2 * mixing->tables->squash[now->logit + MOST_LOGIT] + corrected) >> 2;
    chance = chance < LEAST ? LEAST : chance > ONE - LEAST ? ONE - LEAST : chance;
    now->bit = code(&mixing->coder, bit, (uint32_t)chance);
    int near = beyond >> 6;
    first[near] += ((now->bit << 16) - first[near]) >> 6;
    second[near] += ((now->bit << 16) - second[near]) >> 6;
    now->n = n;
    mixing->now ^= 1;
    return now->bit;
}

int jpeg_decide(JpegMixing *mixing, int n, const uint32_t *hashes, int bit) {
    if (n == 10) return decide(mixing, 10, hashes, bit);
    if (n == 17) return decide(mixing, 17, hashes, bit);
    return decide(mixing, 23, hashes, bit);
}

int jpeg_is_spent(const JpegCoder *coder) { return coder->reads && coder->at > coder->size + MOST_ZEROS; }
