/* The Huffman codes of deflate blocks as zlib builds them (trees.c), ties included, and the bits that say so. */
#include "deflate.h"

const uint8_t deflate_order[N_LENGTHS] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

enum { MAX_NODES = 2 * N_LITERALS + 2 };

typedef struct {
    int64_t count[MAX_NODES];
    int32_t depth[MAX_NODES], dad[MAX_NODES], heap[MAX_NODES];
    int size; /* of the heap */
    int n;    /* symbols; nodes from here on are inner ones */
    int last; /* symbol that has a code */
    int first; /* of the nodes behind the heap, which are sorted */
} Tree;

void deflate_fixed(Lengths *lengths) {
    memset(lengths->literals, 8, N_FIXED);
    memset(lengths->literals + 144, 9, 112);
    memset(lengths->literals + 256, 7, 24);
    memset(lengths->distances, 5, N_DISTANCES);
}

static int is_smaller(const Tree *t, int n, int m) {
    return t->count[n] < t->count[m] || (t->count[n] == t->count[m] && t->depth[n] <= t->depth[m]);
}

/* Move the node at k down until no child is smaller. */
static void sift(Tree *t, int k) {
    int node = t->heap[k];
    for (int child = 2 * k; child <= t->size; child *= 2) {
        if (child < t->size && is_smaller(t, t->heap[child + 1], t->heap[child])) child++;
        if (is_smaller(t, node, t->heap[child])) break;
        t->heap[k] = t->heap[child];
        k = child;
    }
    t->heap[k] = node;
}

/* Begin with the symbols that occur; there are two codes at least. */
static void plant(Tree *t, const int64_t *counts, int n) {
    memset(t, 0, sizeof *t);
    memcpy(t->count, counts, (size_t)n * sizeof *counts);
    t->n = n;
    t->last = -1;
    for (int symbol = 0; symbol < n; symbol++)
        if (counts[symbol]) t->heap[++t->size] = t->last = symbol;
    while (t->size < 2) {
        int node = t->last < 2 ? ++t->last : 0;
        t->heap[++t->size] = node;
        t->count[node] = 1;
    }
    for (int k = t->size / 2; k > 0; k--) sift(t, k);
}

static void grow(Tree *t) {
    int node = t->n;
    t->first = 2 * t->n + 1;
    do {
        int least = t->heap[1];
        t->heap[1] = t->heap[t->size--];
        sift(t, 1);
        int second = t->heap[1];
        t->heap[--t->first] = least;
        t->heap[--t->first] = second;
        t->count[node] = t->count[least] + t->count[second];
        t->depth[node] = (t->depth[least] > t->depth[second] ? t->depth[least] : t->depth[second]) + 1;
        t->dad[least] = t->dad[second] = node;
        t->heap[1] = node++;
        sift(t, 1);
    } while (t->size >= 2);
    t->heap[--t->first] = t->heap[1];
}

/* Give the rarest leaves the longest codes. */
static void shorten(const Tree *t, const int *n_of, int limit, int *length) {
    int h = 2 * t->n + 1;
    for (int bits = limit; bits > 0; bits--)
        for (int left = n_of[bits]; left;) {
            int node = t->heap[--h];
            if (node > t->last) continue;
            length[node] = bits;
            left--;
        }
}

/* The lengths of the leaves, none over `limit`: zlib's gen_bitlen. */
static void limit_lengths(const Tree *t, int limit, int *length) {
    int n_of[MAX_BITS + 2] = {0}, over = 0;
    memset(length, 0, MAX_NODES * sizeof *length);
    for (int h = t->first + 1; h < 2 * t->n + 1; h++) {
        int node = t->heap[h], bits = length[t->dad[node]] + 1;
        if (bits > limit) {
            bits = limit;
            over++;
        }
        length[node] = bits;
        if (node <= t->last) n_of[bits]++;
    }
    if (!over) return;
    for (; over > 0; over -= 2) {
        int bits = limit - 1;
        while (!n_of[bits]) bits--;
        n_of[bits]--;
        n_of[bits + 1] += 2;
        n_of[limit]--;
    }
    shorten(t, n_of, limit, length);
}

static void code_lengths(const int64_t *counts, int n, int limit, uint8_t *lengths) {
    Tree tree;
    int length[MAX_NODES];
    plant(&tree, counts, n);
    grow(&tree);
    limit_lengths(&tree, limit, length);
    for (int symbol = 0; symbol < n; symbol++) lengths[symbol] = (uint8_t)length[symbol];
}

/* The codes of given lengths, their first bit lowest. */
void deflate_codes_of(const uint8_t *lengths, int n, uint16_t *codes) {
    uint32_t n_of[MAX_BITS + 1] = {0}, next[MAX_BITS + 1] = {0};
    for (int symbol = 0; symbol < n; symbol++) n_of[lengths[symbol]]++;
    n_of[0] = 0;
    for (int bits = 1; bits <= MAX_BITS; bits++) next[bits] = (next[bits - 1] + n_of[bits - 1]) << 1;
    for (int symbol = 0; symbol < n; symbol++) {
        uint32_t code = next[lengths[symbol]]++, turned = 0;
        for (int i = 0; i < lengths[symbol]; i++, code >>= 1) turned = turned << 1 | (code & 1);
        codes[symbol] = (uint16_t)turned;
    }
}

typedef struct { /* the lengths of two codes, run by run */
    uint8_t symbols[N_LITERALS + N_DISTANCES], extra[N_LITERALS + N_DISTANCES];
    int n;
} Runs;

static void add_run(Runs *runs, int symbol, int extra) {
    runs->symbols[runs->n] = (uint8_t)symbol;
    runs->extra[runs->n++] = (uint8_t)extra;
}

/* Append the run-length code of n lengths: zlib's scan_tree. */
static void add_runs(Runs *runs, const uint8_t *lengths, int n) {
    int previous = -1, count = 0, most = lengths[0] ? 7 : 138, least = lengths[0] ? 4 : 3;
    for (int i = 0; i < n; i++) {
        int here = lengths[i], after = i + 1 < n ? lengths[i + 1] : -1;
        count++;
        if (count < most && here == after) continue;
        if (count < least) {
            while (count--) add_run(runs, here, 0);
        } else if (here) {
            if (here != previous) {
                add_run(runs, here, 0);
                count--;
            }
            add_run(runs, 16, count - 3);
        } else if (count <= 10) {
            add_run(runs, 17, count - 3);
        } else {
            add_run(runs, 18, count - 11);
        }
        count = 0;
        previous = here;
        most = after == 0 ? 138 : here == after ? 6 : 7;
        least = after == 0 || here == after ? 3 : 4;
    }
}

static int64_t put_bits(uint8_t *bits, int64_t at, int value, int n) {
    for (int i = 0; i < n; i++) bits[at + i] = value >> i & 1;
    return at + n;
}

static int without_zeros(const uint8_t *lengths, int n, int least) {
    while (n > least && !lengths[n - 1]) n--;
    return n;
}

/* Write the header that says two codes, a bit in a byte; return how many: zlib's send_all_trees. */
static int64_t header_of(const uint8_t *literals, const uint8_t *distances, uint8_t *bits) {
    static const int extra_bits[] = {2, 3, 7};
    int n_literals = without_zeros(literals, N_LITERALS, 257), n_distances = without_zeros(distances, N_DISTANCES, 1);
    Runs runs = {.n = 0};
    add_runs(&runs, literals, n_literals);
    add_runs(&runs, distances, n_distances);
    int64_t counts[N_LENGTHS] = {0};
    for (int i = 0; i < runs.n; i++) counts[runs.symbols[i]]++;
    uint8_t lengths[N_LENGTHS];
    uint16_t codes[N_LENGTHS];
    code_lengths(counts, N_LENGTHS, MAX_LENGTH_BITS, lengths);
    deflate_codes_of(lengths, N_LENGTHS, codes);
    int n_lengths = N_LENGTHS;
    while (n_lengths > 4 && !lengths[deflate_order[n_lengths - 1]]) n_lengths--;
    int64_t at = put_bits(bits, 0, n_literals - 257, 5);
    at = put_bits(bits, at, n_distances - 1, 5);
    at = put_bits(bits, at, n_lengths - 4, 4);
    for (int i = 0; i < n_lengths; i++) at = put_bits(bits, at, lengths[deflate_order[i]], 3);
    for (int i = 0; i < runs.n; i++) {
        int symbol = runs.symbols[i];
        at = put_bits(bits, at, codes[symbol], lengths[symbol]);
        if (symbol >= 16) at = put_bits(bits, at, runs.extra[i], extra_bits[symbol - 16]);
    }
    return at;
}

/* Write the bits of the header that zlib would make for `counts`, MAX_HEADER_BITS at most; return how many. */
int64_t deflate_predicted_header(const Counts *counts, uint8_t *bits) {
    uint8_t literals[N_LITERALS], distances[N_DISTANCES];
    code_lengths(counts->literals, N_LITERALS, MAX_BITS, literals);
    code_lengths(counts->distances, N_DISTANCES, MAX_BITS, distances);
    return header_of(literals, distances, bits);
}
