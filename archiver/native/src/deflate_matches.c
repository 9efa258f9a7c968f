/* The guess at every token: what an encoder takes is a function of the matches it can find (see matches.py). */
#include "deflate.h"

enum { LITERAL, MATCH, OTHER }; /* what a token is, beside the match that was found */
enum { HASH_BITS = 16, FAR = 4096, MAX_DISTANCE = 1 << 15, BUCKETS = 14, AHEAD = 4 }; /* FAR: zlib takes no 3 bytes */

typedef struct { /* how an encoder looks for matches */
    int64_t depth, least, nice, inside, window;
} Effort;

typedef struct {
    int length, distance; /* 0, 0: none */
} Match;

typedef struct {
    const uint8_t *raw;
    int64_t size;
    int32_t *heads, *before; /* latest position of a hash; the one before of each position that is in a chain */
    int64_t work;            /* comparisons so far */
    Effort effort;
    int64_t inserted, known; /* next position to insert; one whose match is known */
    Match match;             /* that match */
    int passed;              /* the match before was not taken */
} Search;

typedef struct { /* tokens that are not what the table says: number of the token, length, distance */
    const int64_t *numbers, *lengths, *distances;
    int64_t n;
} Exceptions;

INLINE uint32_t hash(const Search *s, int64_t at) {
    const uint8_t *raw = s->raw + at;
    uint32_t value = raw[0] | (uint32_t)raw[1] << 8 | (uint32_t)raw[2] << 16;
    if (s->effort.least > 3) value |= (uint32_t)raw[3] << 24;
    return value * 2654435761u >> (32 - HASH_BITS);
}

/* How many of `most` bytes are equal. */
INLINE int64_t same_bytes(const uint8_t *a, const uint8_t *b, int64_t most) {
    int64_t n = 0;
    for (; n + 8 <= most; n += 8) {
        uint64_t differ = load64(a + n) ^ load64(b + n);
        if (differ) return n + (__builtin_ctzll(differ) >> 3);
    }
    while (n < most && a[n] == b[n]) n++;
    return n;
}

/* The longest match at a position, the nearest of these; all before it that are candidates are in the chains. */
static Match best(Search *s, int64_t at) {
    const uint8_t *here = s->raw + at;
    int64_t limit = s->size - at < MAX_MATCH ? s->size - at : MAX_MATCH, depth = s->effort.depth;
    if (limit < s->effort.least) return (Match){0, 0};
    int64_t nice = s->effort.nice < limit ? s->effort.nice : limit, length = s->effort.least - 1, distance = 0;
    int64_t work = 0;
    int32_t candidate = s->heads[hash(s, at)];
    for (; candidate >= 0 && at - candidate <= s->effort.window && depth > 0; candidate = s->before[candidate]) {
        depth--;
        work++;
        if (s->raw[candidate + length] != here[length]) continue;
        int64_t n = same_bytes(s->raw + candidate, here, limit);
        work += n >> 3;
        if (n <= length) continue;
        length = n;
        distance = at - candidate;
        if (n >= nice) break;
    }
    s->work += work;
    return distance ? (Match){(int)length, (int)distance} : (Match){0, 0};
}

/* Put positions before `end` into the chains. */
static void insert(Search *s, int64_t end) {
    int64_t most = s->size - s->effort.least + 1;
    for (int64_t at = s->inserted; at < end && at < most; at++) {
        uint32_t key = hash(s, at);
        s->before[at] = s->heads[key];
        s->heads[key] = (int32_t)at;
    }
    if (end > s->inserted) s->inserted = end;
}

/* Whether the match where one of `length` ends could begin right after `at`. */
static int swallows(Search *s, int64_t at, int length) {
    Match follower = best(s, at + length);
    if (!follower.length || at + 1 < follower.distance) return 0;
    const uint8_t *from = s->raw + at + 1;
    return same_bytes(from, from - follower.distance, length - 1) == length - 1;
}

/* A class of lengths: zlib's levels change at its powers of two. */
static int bucket(int length) {
    static const int ends[] = {12, 16, 32, 64, 128, 258};
    if (length < 9) return length > 2 ? length - 2 : 0;
    for (int i = 0; i < 6; i++)
        if (length < ends[i]) return 7 + i;
    return BUCKETS - 1;
}

/* Find the match at a position, its context, and the match one further on. */
static int arrive(Search *s, int64_t at, Match *found, Match *after) {
    insert(s, at);
    *found = s->known == at ? s->match : best(s, at);
    insert(s, at + 1);
    *after = (Match){0, 0};
    int swallowed = 0, ahead = 0;
    if (found->length) {
        *after = best(s, at + 1);
        swallowed = s->effort.least > 3 && swallows(s, at, found->length);
        if (after->length >= found->length) ahead = 1 + after->length - found->length;
        if (ahead > AHEAD - 1) ahead = AHEAD - 1;
    }
    int context = bucket(found->length) * AHEAD + ahead;
    return ((context * 2 + (found->distance > FAR)) * 2 + s->passed) * 2 + swallowed;
}

/* Go on behind a token of `length`; the inside of long matches stays out of the chains, as fast levels have it. */
static void leave(Search *s, int64_t at, int length, Match found, Match after) {
    s->inserted = length > s->effort.inside ? at + length : at + 1;
    s->known = found.length ? at + 1 : -1;
    s->match = after;
    s->passed = found.length > 0 && length == 0;
}

static int start(Search *s, const Stream *stream, const Effort *effort, int32_t *heads, int32_t *before) {
    if ((effort->least != 3 && effort->least != 4) || stream->raw_size > INT32_MAX) return 0;
    *s = (Search){.raw = stream->raw, .size = stream->raw_size, .heads = heads, .before = before, .effort = *effort};
    memset(heads, 0xFF, sizeof *heads << HASH_BITS);
    return 1;
}

static void start_block(Search *s) {
    s->known = -1;
    s->match = (Match){0, 0};
    s->passed = 0;
}

/* Fill in the context of every token, and what it is beside the match found there.
 *
 * Returns how many comparisons that took, -1 if more than `most`: some bytes match everywhere.  `heads` has
 * 1 << HASH_BITS places, `before` one for every byte. */
API int64_t archiver_deflate_compare(const Stream *stream, const Effort *effort, int32_t *heads, int32_t *before,
                                     uint16_t *contexts, uint8_t *kinds, int64_t most) {
    Search s;
    int64_t at = 0, i = 0;
    if (!start(&s, stream, effort, heads, before)) return -1;
    for (int64_t n = 0; n < stream->n_blocks; n++) {
        const int64_t *block = stream->blocks + n * COLUMNS;
        int64_t covered = deflate_covered(stream, block, i, at);
        if (covered < 0) return -1;
        start_block(&s);
        if (block[TYPE] == STORED) {
            at += covered;
            continue;
        }
        for (int64_t stop = i + block[COUNT]; i < stop; i++) {
            Match found, after;
            int length = stream->lengths[i];
            if (s.work > most) return -1;
            contexts[i] = (uint16_t)arrive(&s, at, &found, &after);
            int same = length == found.length && stream->distances[i] == found.distance;
            kinds[i] = length == 0 ? LITERAL : same ? MATCH : OTHER;
            leave(&s, at, length, found, after);
            at += length ? length : 1;
        }
    }
    return s.work;
}

/* Fill in the tokens that `table`, by contexts, and exceptions make; return where they end.
 *
 * -1 if one is impossible, or that takes more than `most` comparisons. */
API int64_t archiver_deflate_expand(const Stream *stream, const Effort *effort, int32_t *heads, int32_t *before,
                                    const uint8_t *table, const Exceptions *exceptions, int64_t most) {
    Search s;
    int64_t at = 0, i = 0, k = 0;
    if (!start(&s, stream, effort, heads, before)) return -1;
    for (int64_t n = 0; n < stream->n_blocks; n++) {
        const int64_t *block = stream->blocks + n * COLUMNS;
        if (block[COUNT] < 0) return -1;
        start_block(&s);
        if (block[TYPE] == STORED) {
            at += block[COUNT];
            continue;
        }
        if (block[COUNT] > stream->n_tokens - i) return -1;
        for (int64_t stop = i + block[COUNT]; i < stop; i++) {
            Match found, after, token = {0, 0};
            if (at >= s.size || s.work > most) return -1;
            if (table[arrive(&s, at, &found, &after)] == MATCH) token = found;
            if (k < exceptions->n && exceptions->numbers[k] == i) {
                token = (Match){(int)exceptions->lengths[k], (int)exceptions->distances[k]};
                k++;
            }
            int is_match = token.length >= MIN_MATCH && token.length <= MAX_MATCH;
            if (token.length && !(is_match && token.distance >= 1 && token.distance <= MAX_DISTANCE)) return -1;
            stream->lengths[i] = (uint16_t)token.length;
            stream->distances[i] = (uint16_t)token.distance;
            leave(&s, at, token.length, found, after);
            at += token.length ? token.length : 1;
        }
    }
    return at;
}
