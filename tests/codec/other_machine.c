/* Encodes and decodes tiles with the core as test_other_machines.py has written them down; returns 0 if all bytes are
 * those expected.  Built for another architecture and run by an emulator. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Network Network;
typedef struct {
    const int8_t *weights;
    const float *scale, *bias;
    int32_t n_in, n_out;
} Layer;

Network *archiver_network_new(int dim, int hidden, int n_blocks, int mixtures, int copies);
int archiver_network_block(Network *net, int at, const Layer layers[6]);
int archiver_network_port(Network *net, int kind, const Layer layers[2], const int16_t *base);
int64_t archiver_tile_encode(
    const Network *net, const float *tables, int kind, const uint8_t *tile, int height, int width, uint32_t *words);
int archiver_tile_decode(
    const Network *net, const float *tables, int kind, const uint8_t *payload, size_t bytes, uint8_t *tile, int height,
    int width);
int64_t archiver_deep_encode(
    const Network *net, const float *tables, const int32_t *window, const int32_t *numbers, int height, int width,
    uint32_t *words);
int archiver_deep_decode(
    const Network *net, const float *tables, const int32_t *window, const uint8_t *payload, size_t bytes,
    int32_t *numbers, int height, int width);

static FILE *file;

static void take(void *to, size_t bytes) {
    if (fread(to, 1, bytes, file) != bytes) exit(9);
}

static int32_t number(void) {
    int32_t x;
    take(&x, sizeof x);
    return x;
}

static void *block(void) {
    const size_t bytes = (size_t)number();
    void *p = malloc(bytes + 1);
    take(p, bytes);
    return p;
}

static Layer layer(void) {
    Layer l;
    l.n_in = number();
    l.n_out = number();
    l.weights = block();
    l.scale = block();
    l.bias = block();
    return l;
}

static int tile(const Network *net, const float *tables) {
    const int kind = number(), height = number(), width = number();
    int32_t *window = block();
    uint8_t *samples = block();
    const int32_t bytes = number(), size = number();
    uint8_t *payload = malloc(bytes + 1);
    take(payload, bytes);
    uint32_t *words = calloc(bytes + 4096, 4);
    void *back = calloc(size, 1);
    int64_t n;
    int done;
    if (kind < 2) {
        n = archiver_tile_encode(net, tables, kind, samples, height, width, words);
        done = archiver_tile_decode(net, tables, kind, payload, bytes, back, height, width);
    } else {
        n = archiver_deep_encode(net, tables, window, (int32_t *)samples, height, width, words);
        done = archiver_deep_decode(net, tables, window, payload, bytes, back, height, width);
    }
    const int same = n * 4 == bytes && !memcmp(words, payload, bytes) && done == 1 && !memcmp(back, samples, size);
    printf("kind %d, %d x %d: %s\n", kind, height, width, same ? "same" : "DIFFERS");
    return same;
}

int main(int argc, char **argv) {
    if (argc < 2 || !(file = fopen(argv[1], "rb"))) return 8;
    float *tables = block();
    const int dim = number(), hidden = number(), n_blocks = number(), mixtures = number(), copies = number();
    Network *net = archiver_network_new(dim, hidden, n_blocks, mixtures, copies);
    for (int i = 0; i < n_blocks; i++) {
        Layer layers[6];
        for (int k = 0; k < 6; k++) layers[k] = layer();
        if (!archiver_network_block(net, i, layers)) return 7;
    }
    const int ports = number();
    for (int i = 0; i < ports; i++) {
        const int kind = number();
        const Layer layers[2] = {layer(), layer()};
        if (!archiver_network_port(net, kind, layers, block())) return 6;
    }
    int same = 1;
    for (int n = number(); n > 0; n--) same &= tile(net, tables);
    return !same;
}
