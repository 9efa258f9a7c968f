/* Contexts of JPEG coefficients; see jpeg_contexts.h.
 *
 * Bounds of what selects weights and curves, for jpeg_mixing.c: component <= 3; stage <= 3; node < 32, of an end < 64;
 * k, ends and their mean <= 63; logarithms are cut to what is said beside them.
 */
#include <stdlib.h>

#include "jpeg_contexts.h"

enum {
    EIGHTHS = 8, /* predictions count in eighths of a quantisation step */
    MOST_DC = 1 << 14,
};

INLINE int least(int a, int b) { return a < b ? a : b; }

/* A number's place on a scale of two steps an octave: 0 1 2 3 4 4 5 5 6 6 6 6 7... */
INLINE int log2_of(uint64_t x) {
    int bits = 62 - __builtin_clzll(x | 3);
    return 2 * bits + (int)(x >> bits);
}

/* A number's place on a scale of four steps an octave. */
INLINE int log4_of(uint64_t x) {
    int bits = 61 - __builtin_clzll(x | 7);
    return 4 * bits + (int)(x >> bits);
}

INLINE uint64_t magnitude(int64_t x) { return (uint64_t)(x < 0 ? -x : x); }

/* `log2_of` a magnitude, at most 15, with its sign. */
INLINE int signed2(int64_t x) {
    int log = least(log2_of(magnitude(x)), 15);
    return x < 0 ? -log : log;
}

/* `log4_of` a magnitude, with its sign. */
INLINE int signed4(int64_t x) {
    int log = log4_of(magnitude(x));
    return x < 0 ? -log : log;
}

/* Divide, rounding down: exact, as |x| < 2^48 is exact as a double, whose quotient is off by less than 1. */
INLINE int64_t divide(int64_t x, const Divisor *divisor) {
    int64_t quotient = (int64_t)((double)x * divisor->inverse);
    int64_t rest = x - quotient * divisor->by;
    return quotient - (rest < 0) + (rest >= divisor->by);
}

/* Return the place of the last AC coefficient that is not 0, 0 if all are. */
INLINE int last_nonzero(const int16_t *block) {
    int k = BLOCK - 1;
    while (k > 0 && !block[k]) k--;
    return k;
}

INLINE const Known *known(const Scene *scene, int up, int left) {
    return scene->rows[up] + scene->column + 2 - left;
}

INLINE const int16_t *other(const Scene *scene, int i) {
    const int16_t *plane = i ? scene->plane.second : scene->plane.first;
    return plane + ((size_t)scene->row * scene->plane.columns + scene->column) * BLOCK;
}

/* ---- the end of a block ---- */

static void lay_end(Scene *scene, int right, int corner) {
    const Known *beside = known(scene, 0, 1), *over = known(scene, 1, 0);
    int left = scene->column ? beside->end : over->end, above = scene->row ? over->end : left;
    if (!scene->row) right = above;
    int mean = scene->row || scene->column ? (2 * left + 2 * above + right + corner) / 6 : 0;
    int first = scene->plane.others > 0 ? last_nonzero(other(scene, 0)) : 0;
    int second = scene->plane.others > 1 ? last_nonzero(other(scene, 1)) : 0;
    int both = log2_of((uint64_t)(beside->sum + over->sum));
    uint32_t *hashes = scene->hashes;
    hashes[1] = jpeg_hash_others(mean, 0);
    hashes[2] = jpeg_hash_others(left >> 1, above >> 1);
    hashes[3] = jpeg_hash_others(left, 0);
    hashes[4] = jpeg_hash_others(above, 0);
    hashes[5] = jpeg_hash_others((right + above) >> 2, left >> 2);
    hashes[6] = jpeg_hash_others(first >> 1, mean >> 2);
    hashes[7] = jpeg_hash_others(second >> 1, first >> 2);
    hashes[8] = jpeg_hash_others(log2_of((uint64_t)beside->sum), log2_of((uint64_t)over->sum));
    hashes[9] = jpeg_hash_others(both, mean >> 2);
    hashes[10] = jpeg_hash_others(0, 0);
    scene->end_left = left;
    scene->mean_end = mean;
    scene->both_sums = least(both, 15);
}

void jpeg_look_around(Scene *scene, int row, int column) {
    scene->row = row;
    scene->column = column;
    scene->count = scene->sum = 0;
    memset(scene->off, 0, sizeof scene->off);
    memset(scene->of, 0, sizeof scene->of);
    memset(scene->seen, 0, sizeof scene->seen);
    memset(scene->inside, 0, sizeof scene->inside);
    memcpy(scene->above, scene->edge_above[column].below, sizeof scene->above);
    memcpy(scene->left, scene->right, sizeof scene->left);
    int left = column ? known(scene, 0, 1)->end : known(scene, 1, 0)->end;
    int right = row && column + 1 < scene->plane.columns ? known(scene, 1, -1)->end : known(scene, 1, 0)->end;
    lay_end(scene, right, row && column ? known(scene, 1, 1)->end : left);
}

int jpeg_decide_end(const Scene *scene, JpegMixing *mixing, int place, int node, int bit) {
    _Alignas(32) uint32_t hashes[JPEG_LANES];
    int component = (int)scene->plane.component, colour = least(component, 1);
    uint32_t here = jpeg_hash_first(node * 4 + component);
    for (int i = 0; i < 16; i++) hashes[i] = scene->hashes[i] + here;
    JpegDecision *now = jpeg_prepare(mixing);
    now->sets[0] = 512 + node + 64 * colour;
    now->sets[1] = 576 + (scene->mean_end >> 1) + 32 * colour;
    now->sets[2] = 1024 + 16 * place + scene->both_sums;
    now->blend = 64 + place;
    now->curves[0] = 512 + node;
    now->curves[1] = 512 + scene->mean_end;
    return jpeg_decide(mixing, 10, hashes, bit);
}

/* ---- what is known of a coefficient ---- */

void jpeg_look_beside(Scene *scene) {
    const int16_t *left = known(scene, 0, 1)->values, *above = known(scene, 1, 0)->values;
    const int16_t *corner = known(scene, 1, 1)->values, *other_corner = known(scene, 1, -1)->values;
    const int16_t *far_left = known(scene, 0, 2)->values, *far_above = known(scene, 2, 0)->values;
    int32_t beside[SIDE + 2][SIDE + 2] = {{0}}, in_columns[SIDE + 2][SIDE];
    for (int i = 0; i < BLOCK; i++) {
        int32_t near = abs(left[i]) + abs(above[i]);
        int32_t corners = abs(corner[i]) + abs(other_corner[i]), far = abs(far_left[i]) + abs(far_above[i]);
        scene->near[i] = (13 * near + 3 * corners + 2 * far) >> 2;
        scene->around[i] = near;
    }
    scene->around[0] = 0; /* DC is no neighbour of frequencies */
    for (int v = 0; v < SIDE; v++) memcpy(beside[v + 1] + 1, scene->around + SIDE * v, SIDE * sizeof(int32_t));
    for (int v = 0; v < SIDE + 2; v++)
        for (int u = 0; u < SIDE; u++) in_columns[v][u] = beside[v][u] + beside[v][u + 1] + beside[v][u + 2];
    for (int v = 0; v < SIDE; v++)
        for (int u = 0; u < SIDE; u++)
            scene->around[SIDE * v + u] = in_columns[v][u] + in_columns[v + 1][u] + in_columns[v + 2][u];
}

/* Predict a coefficient so that samples go on over the upper, and the left, edge; `scene->k` is set. */
INLINE void predict(const Scene *scene, int64_t up[2], int64_t across[2]) {
    int v = scene->in_rows[scene->k] / SIDE, u = scene->in_rows[scene->k] % SIDE;
    for (int e = 0; e < 2; e++) {
        up[e] = scene->row ? divide(scene->above[e][u] * EIGHTHS, &scene->vertical[scene->k][e]) : 0;
        across[e] = scene->column ? divide(scene->left[e][v] * EIGHTHS, &scene->horizontal[scene->k][e]) : 0;
    }
}

INLINE void look_at_dc(Scene *scene) {
    int64_t up[2], across[2];
    int left = known(scene, 0, 1)->values[0], above = known(scene, 1, 0)->values[0];
    int edges = (scene->row > 0) + (scene->column > 0);
    predict(scene, up, across);
    int64_t on = up[1] + across[1], mean = edges ? (up[0] + across[0] + on) >> edges : 0; /* of 2 or 4 */
    int64_t guess = (mean + 4) >> 3;
    scene->guess = guess < -MOST_DC ? -MOST_DC : guess > MOST_DC ? MOST_DC : (int32_t)guess;
    scene->spread = edges == 2 ? least(log2_of(magnitude(up[0] - across[0])), 20) : 0;
    scene->slope = least(log2_of(magnitude(above - left)), 20);
    scene->signed_[MEAN_ON] = signed2(on - mean * edges);
    scene->signed_[LEFT] = scene->column ? signed2(left - scene->guess) : 0;
    scene->signed_[ABOVE] = scene->row ? signed2(above - scene->guess) : 0;
}

INLINE void look_at_ac(Scene *scene) {
    int64_t up[2], across[2];
    int place = scene->in_rows[scene->k], v = place / SIDE, u = place % SIDE;
    int32_t near = scene->near[place], inside = scene->inside[v + 1][u + 1], around = scene->around[place];
    int32_t *facts = scene->signed_;
    scene->guess = 0;
    scene->near_log = least(log2_of(near), 17);
    scene->inside_log = least(log2_of(inside), 15);
    scene->around_log = least(log2_of(around), 15);
    scene->both_log = log4_of(2 * (int64_t)near + 2 * inside + around);
    facts[LEFT] = signed2(known(scene, 0, 1)->values[place]);
    facts[ABOVE] = signed2(known(scene, 1, 0)->values[place]);
    predict(scene, up, across);
    int half = scene->row && scene->column; /* both edges: their mean */
    int64_t mean = (up[0] + across[0]) >> half, on = (up[1] + across[1]) >> half;
    facts[UP] = signed2(up[0] >> 1);
    facts[ACROSS] = signed2(across[0] >> 1);
    facts[UP_ON] = signed2(up[1] >> 1);
    facts[ACROSS_ON] = signed2(across[1] >> 1);
    facts[MEAN] = signed2(mean);
    facts[MEAN_ON] = signed2(on);
    facts[MEAN4] = signed4(mean);
    facts[MEAN_ON4] = signed4(on);
}

void jpeg_look(Scene *scene, int k) {
    int32_t *facts = scene->signed_;
    scene->k = k;
    int first = scene->others[0] = scene->plane.others > 0 ? other(scene, 0)[k] : 0;
    int second = scene->others[1] = scene->plane.others > 1 ? other(scene, 1)[k] : 0;
    facts[FIRST] = signed2(first);
    facts[SECOND] = signed2(second);
    facts[FIRST4] = signed4(first);
    facts[SECOND4] = signed4(second);
    if (k) {
        look_at_ac(scene);
    } else {
        look_at_dc(scene);
    }
}

/* ---- the contexts of a coefficient ---- */

INLINE void lay_dc(Scene *scene, int stage, int sign) {
    int toward = stage >= CLASS && sign < 0 ? -1 : 1;
    const int32_t *facts = scene->signed_;
    int on = toward * facts[MEAN_ON], left = toward * facts[LEFT], above = toward * facts[ABOVE];
    int spread = scene->spread;
    uint32_t *hashes = scene->hashes;
    hashes[1] = jpeg_hash_others(spread, 0);
    hashes[2] = jpeg_hash_others(spread, least(log2_of(scene->sum), 15));
    hashes[3] = jpeg_hash_others(left, above);
    hashes[4] = jpeg_hash_others(on, spread);
    hashes[5] = jpeg_hash_others(on, left);
    hashes[6] = jpeg_hash_others(on, above);
    hashes[7] = jpeg_hash_others(scene->count, 0);
    hashes[8] = jpeg_hash_others(facts[FIRST], 0);
    hashes[9] = jpeg_hash_others(facts[SECOND], spread >> 1);
    hashes[10] = jpeg_hash_others(scene->slope, spread >> 1);
}

/* Lanes whose contexts say nothing of place: all bits. */
static const uint32_t ANYWHERE[JPEG_LANES] = {
    [14] = UINT32_MAX, [15] = UINT32_MAX, [16] = UINT32_MAX, [17] = UINT32_MAX,
    [20] = UINT32_MAX, [21] = UINT32_MAX, [22] = UINT32_MAX, [23] = UINT32_MAX,
};

INLINE void lay_ac_of_others(Scene *scene, const int32_t *t) {
    uint32_t *hashes = scene->hashes;
    int both = scene->both_log, i = scene->plane.others > 1;
    int off = least(log2_of(scene->off[i]), 12), of = least(log2_of(scene->of[i]), 12);
    hashes[18] = jpeg_hash_others(t[FIRST], t[MEAN]);
    hashes[19] = jpeg_hash_others(t[FIRST], t[MEAN_ON]);
    hashes[20] = jpeg_hash_others(t[FIRST] * 32 + t[SECOND], t[MEAN_ON]);
    hashes[21] = jpeg_hash_others(t[FIRST4], both >> 1);
    hashes[22] = jpeg_hash_others(t[SECOND4], both >> 1);
    hashes[23] = jpeg_hash_others(t[i ? SECOND4 : FIRST4], off * 16 + of);
}

INLINE void lay_ac(Scene *scene, int stage, int sign) {
    int32_t t[N_SIGNED];
    for (int i = 0; i < N_SIGNED; i++) t[i] = stage == ZERO ? abs(scene->signed_[i]) : sign * scene->signed_[i];
    int place = scene->in_rows[scene->k], v = place / SIDE, u = place % SIDE;
    int near = scene->near_log, inside = scene->inside_log, around = scene->around_log, both = scene->both_log;
    int pair = least(scene->seen[v][u + 1], 7) * 8 + least(scene->seen[v + 1][u], 7);
    uint32_t *hashes = scene->hashes;
    hashes[1] = jpeg_hash_others(t[UP], t[ACROSS]);
    hashes[2] = jpeg_hash_others(t[UP_ON], t[ACROSS_ON]);
    hashes[3] = jpeg_hash_others(t[MEAN], near);
    hashes[4] = jpeg_hash_others(t[MEAN_ON], inside);
    hashes[5] = jpeg_hash_others(around, inside);
    hashes[6] = jpeg_hash_others(least(log2_of(scene->sum), 15), scene->k - scene->end);
    hashes[7] = jpeg_hash_others(t[LEFT], t[ABOVE]);
    hashes[8] = jpeg_hash_others(t[SECOND] * 32 + t[FIRST], near >> 1);
    hashes[9] = jpeg_hash_others(t[MEAN], t[MEAN_ON]);
    hashes[10] = jpeg_hash_others(pair, least(scene->seen[v + 1][u + 1], 3));
    hashes[11] = jpeg_hash_others(t[UP], around);
    hashes[12] = jpeg_hash_others(t[ACROSS], around);
    hashes[13] = jpeg_hash_others(around * 32 + near, scene->end_left >> 2);
    hashes[14] = jpeg_hash_others(both, 0);
    hashes[15] = jpeg_hash_others(both, t[MEAN]);
    hashes[16] = jpeg_hash_others(t[MEAN4], 0);
    hashes[17] = jpeg_hash_others(t[MEAN_ON4], both >> 1);
    if (scene->plane.others) lay_ac_of_others(scene, t);
}

void jpeg_lay(Scene *scene, int stage, int sign) {
    if (scene->k) {
        lay_ac(scene, stage, sign);
    } else {
        lay_dc(scene, stage, sign);
    }
}

INLINE int decide_dc(const Scene *scene, JpegMixing *mixing, int stage, int node, int bit) {
    _Alignas(32) uint32_t hashes[JPEG_LANES];
    uint32_t here = jpeg_hash_first(node * 4 + (uint32_t)scene->plane.component);
    for (int i = 0; i < 16; i++) hashes[i] = scene->hashes[i] + here;
    JpegDecision *now = jpeg_prepare(mixing);
    now->sets[0] = 640 + node;
    now->sets[1] = 640 + scene->spread + 32 * stage;
    now->sets[2] = 1120 + scene->count + 64 * stage;
    now->blend = 80 + node;
    now->curves[0] = 576 + node;
    now->curves[1] = 576 + scene->spread;
    return jpeg_decide(mixing, 10, hashes, bit);
}

INLINE int decide_ac(const Scene *scene, JpegMixing *mixing, int stage, int node, int bit) {
    _Alignas(32) uint32_t hashes[JPEG_LANES];
    int component = (int)scene->plane.component, colour = least(component, 1), k = scene->k;
    int near = scene->near_log, inside = scene->inside_log;
    uint32_t every = jpeg_hash_first(node * 4 + component), here = jpeg_hash_first((node * 64 + k) * 4 + component);
    for (int i = 0; i < JPEG_LANES; i++) hashes[i] = scene->hashes[i] + here + (ANYWHERE[i] & (every - here));
    JpegDecision *now = jpeg_prepare(mixing);
    now->sets[0] = k + 64 * stage + 256 * colour;
    now->sets[1] = node + 32 * (near >> 1) + 288 * colour;
    now->sets[2] = inside + 16 * abs(scene->signed_[MEAN]) + 256 * stage;
    now->blend = node + 32 * colour;
    now->curves[0] = node * 16 + inside;
    now->curves[1] = k * 8 + least(near >> 1, 7);
    return jpeg_decide(mixing, scene->plane.others ? 23 : 17, hashes, bit);
}

int jpeg_decide_number(const Scene *scene, JpegMixing *mixing, int stage, int node, int bit) {
    if (scene->k) return decide_ac(scene, mixing, stage, node, bit);
    return decide_dc(scene, mixing, stage, node, bit);
}

/* ---- what becomes known ---- */

/* Add to what lower frequencies find inside their block: most coefficients are zero, and add nothing. */
INLINE void spread_inside(Scene *scene, int v, int u, int size) {
    int32_t(*inside)[10] = scene->inside;
    inside[v + 1][u] += 2 * size; /* [v + 1][u + 1] is this one */
    inside[v][u + 1] += 2 * size;
    inside[v][u] += size;
    inside[v + 1][u > 0 ? u - 1 : 0] += size;
    inside[v > 0 ? v - 1 : 0][u + 1] += size;
    inside[v + 2][u] += size;
    inside[v][u + 2] += size;
}

void jpeg_know(Scene *scene, int k, int value) {
    if (!k) return; /* the last of a block */
    for (int i = 0; i < 2; i++) {
        scene->off[i] += abs(value - scene->others[i]);
        scene->of[i] += abs(scene->others[i]);
    }
    if (!value) return;
    int v = scene->in_rows[k] / SIDE, u = scene->in_rows[k] % SIDE, size = abs(value);
    int64_t scaled = value * scene->plane.steps[k];
    for (int e = 0; e < 2; e++) {
        scene->above[e][u] -= scaled * scene->edges[e][v];
        scene->left[e][v] -= scaled * scene->edges[e][u];
    }
    scene->seen[v][u] = size;
    scene->count++;
    scene->sum += size;
    spread_inside(scene, v, u, size);
}

void jpeg_finish(Scene *scene, const int16_t *block) {
    Known *here = scene->rows[0] + scene->column + 2;
    Edge *edge = scene->edge_above + scene->column;
    memset(here->values, 0, sizeof here->values);
    memset(edge, 0, sizeof *edge);
    memset(scene->right, 0, sizeof scene->right);
    for (int k = 0; k <= scene->end; k++) {
        int v = scene->in_rows[k] / SIDE, u = scene->in_rows[k] % SIDE;
        int64_t scaled = block[k] * scene->plane.steps[k];
        here->values[scene->in_rows[k]] = block[k];
        if (!scaled) continue;
        for (int e = 0; e < 2; e++) { /* odd frequencies have the other sign there */
            edge->below[e][u] += (v & 1 ? -scaled : scaled) * scene->edges[e][v];
            scene->right[e][v] += (u & 1 ? -scaled : scaled) * scene->edges[e][u];
        }
    }
    here->end = scene->end;
    here->sum = scene->sum;
}
