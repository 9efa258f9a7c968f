/* The order of decisions on JPEG coefficients: of a plane its blocks, of a block its end, its AC, its DC.
 *
 * The same code writes and reads, so that both take the same decisions.  Whatever is read, a value that no JPEG has
 * ends it before it is stored, and a row begins only while there is something to read: damage ends in time.
 */
#include <stdlib.h>

#include "jpeg_contexts.h"

enum {
    MOST_MAGNITUDE = (1 << 14) - 1, /* of a coefficient */
    MOST_CLASS = 16,                /* magnitudes, or differences of DC, up to 2^16 */
};

enum { NO_MEMORY = -1, IMPOSSIBLE, DONE }; /* what the coding of a plane returns */

INLINE int least(int a, int b) { return a < b ? a : b; }

/* Code the place of the last nonzero AC coefficient, bit by bit. */
static int code_end(int end, const Scene *scene, JpegMixing *mixing) {
    int node = 1;
    for (int place = 5; place >= 0; place--)
        node = 2 * node + jpeg_decide_end(scene, mixing, place, node, end >> place & 1);
    return node - 64;
}

/* Code the class of a magnitude; class c > 0 has those from 2^(c-1) + 1 to 2^c, class 0 has 1. */
INLINE int code_class(int size, const Scene *scene, JpegMixing *mixing) {
    int bits = 0;
    while (bits < MOST_CLASS) {
        int node = 1 + least(bits + 1, 12);
        if (!jpeg_decide_number(scene, mixing, CLASS, node, size >> bits > 0)) break;
        bits++;
    }
    return bits;
}

/* Code what follows the highest bit of a magnitude, less 1, of a class. */
INLINE int code_mantissa(int bits, int size, const Scene *scene, JpegMixing *mixing) {
    int out = least(bits, 1);
    for (int left = bits - 2; left >= 0; left--) {
        int node = left == bits - 2 ? 14 + least(bits, 9) : (left == bits - 3 ? 24 : 28) + least(left, 3);
        out = 2 * out + jpeg_decide_number(scene, mixing, MANTISSA, node, size >> left & 1);
    }
    return out;
}

/* Code a coefficient, DC less its prediction: zero, sign, class, mantissa. */
static int code_number(int value, Scene *scene, JpegMixing *mixing) {
    int size = abs(value) - 1;
    jpeg_lay(scene, ZERO, 1);
    if (!scene->k || scene->k != scene->end) { /* at the end is no zero */
        if (!jpeg_decide_number(scene, mixing, ZERO, 0, value != 0)) return 0;
    }
    jpeg_lay(scene, SIGN, 1);
    int sign = jpeg_decide_number(scene, mixing, SIGN, 1, value < 0) ? -1 : 1;
    if (sign < 0) jpeg_lay(scene, CLASS, sign);
    int bits = code_class(size, scene, mixing);
    return sign * (code_mantissa(bits, size, scene, mixing) + 1);
}

/* Code a block; return whether it is a possible one. */
static int code_block(int16_t *block, Scene *scene, JpegMixing *mixing) {
    int end = 63;
    while (end > 0 && !block[end]) end--;
    end = scene->end = code_end(end, scene, mixing);
    if (end) jpeg_look_beside(scene);
    for (int k = end; k >= 0; k--) {
        jpeg_look(scene, k);
        int value = scene->guess + code_number(block[k] - scene->guess, scene, mixing);
        if (abs(value) > MOST_MAGNITUDE) return 0;
        if (mixing->coder.reads) block[k] = (int16_t)value;
        jpeg_know(scene, k, value);
    }
    jpeg_finish(scene, block);
    return 1;
}

static int code_rows(Scene *scene, JpegMixing *mixing) {
    int16_t *block = scene->plane.blocks;
    for (int row = 0; row < scene->plane.rows; row++) {
        memset(scene->right, 0, sizeof scene->right);
        if (jpeg_is_spent(&mixing->coder)) return IMPOSSIBLE;
        for (int column = 0; column < scene->plane.columns; column++, block += BLOCK) {
            jpeg_look_around(scene, row, column);
            if (!code_block(block, scene, mixing)) return IMPOSSIBLE;
        }
        Known *oldest = scene->rows[2];
        scene->rows[2] = scene->rows[1];
        scene->rows[1] = scene->rows[0];
        scene->rows[0] = oldest;
    }
    return DONE;
}

static void set_up(Scene *scene, const JpegPlane *plane, const JpegTables *tables) {
    memset(scene, 0, sizeof *scene);
    scene->plane = *plane;
    memcpy(scene->in_rows, tables->in_rows, sizeof scene->in_rows);
    memcpy(scene->edges, tables->edges, sizeof scene->edges);
    for (int k = 0; k < BLOCK; k++) {
        for (int e = 0; e < 2; e++) {
            int64_t down = plane->steps[k] * scene->edges[e][scene->in_rows[k] / SIDE];
            int64_t across = plane->steps[k] * scene->edges[e][scene->in_rows[k] % SIDE];
            scene->vertical[k][e] = (Divisor){down, 1.0 / (double)down};
            scene->horizontal[k][e] = (Divisor){across, 1.0 / (double)across};
        }
    }
}

/* Write the blocks of a component, or read them; return whether they are possible ones, NO_MEMORY without any.
 *
 * The caller has checked the arrays' shapes (archiver/codec/jpeg/kernels.py).
 */
API int archiver_jpeg_code_plane(
    const JpegPlane *plane, const JpegTables *tables, const JpegState *state, JpegCoder *coder
) {
    size_t columns = (size_t)plane->columns;
    Scene *scene = aligned_alloc(64, (sizeof(Scene) + 63) & ~(size_t)63);
    JpegMixing *mixing = aligned_alloc(64, (sizeof(JpegMixing) + 63) & ~(size_t)63);
    Known *rows = calloc(3 * (columns + 3), sizeof(Known));
    Edge *edges = calloc(columns + 1, sizeof(Edge));
    int out = NO_MEMORY;
    if (scene && mixing && rows && edges) {
        set_up(scene, plane, tables);
        for (int i = 0; i < 3; i++) scene->rows[i] = rows + i * (columns + 3);
        scene->edge_above = edges;
        memset(mixing, 0, sizeof *mixing);
        mixing->tables = tables;
        mixing->state = *state;
        mixing->coder = *coder;
        out = code_rows(scene, mixing);
        jpeg_settle(mixing);
        *coder = mixing->coder;
    }
    free(scene);
    free(mixing);
    free(rows);
    free(edges);
    return out;
}
