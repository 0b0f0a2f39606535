// One mixed program at every level of optimization, with debug information, and link-time optimized.
//@ build: tag=Os
//@ flags: -Os
//@ build: tag=O1
//@ flags: -O1
//@ build: tag=O3
//@ flags: -O3 -funroll-loops
//@ build: tag=native
//@ flags: -O3 -mavx2 -mfma -mbmi2
//@ build: tag=debug
//@ flags: -Og -g
//@ build: tag=lto-gcc compilers=gcc linkers=ld,gold
//@ flags: -O2 -flto
//@ build: tag=lto-clang compilers=clang linkers=lld
//@ flags: -O2 -flto=thin
//@ build: tag=protected
//@ flags: -O2 -fstack-protector-all -D_FORTIFY_SOURCE=2 -ftrivial-auto-var-init=zero
//@ build: tag=framed
//@ flags: -O2 -fno-omit-frame-pointer -fno-plt -fno-reorder-blocks
#include "../program.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static uint64_t state = 88172645463325252ull;
static uint64_t next(void) { state ^= state << 13; state ^= state >> 7; return state ^= state << 17; }
struct node { struct node *left, *right; uint32_t key; };
static struct node *insert(struct node *n, uint32_t key) {
    if (!n) { n = calloc(1, sizeof *n); n->key = key; return n; }
    if (key < n->key) n->left = insert(n->left, key); else if (key > n->key) n->right = insert(n->right, key);
    return n;
}
static int height(const struct node *n) { if (!n) return 0; int l = height(n->left), r = height(n->right); return 1 + (l > r ? l : r); }
static void release(struct node *n) { if (n) { release(n->left); release(n->right); free(n); } }
static int queens(int n, int row, unsigned columns, unsigned up, unsigned down) {
    if (row == n) return 1;
    int found = 0;
    for (unsigned free_ = ~(columns | up | down) & ((1u << n) - 1); free_; free_ &= free_ - 1) { unsigned bit = free_ & -free_; found += queens(n, row + 1, columns | bit, (up | bit) << 1, (down | bit) >> 1); }
    return found;
}
static uint32_t checksum(const unsigned char *p, size_t n) { uint32_t c = ~0u; while (n--) { c ^= *p++; for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1; } return ~c; }
static double integrate(double (*f)(double), double a, double b, int n) { double h = (b - a) / n, s = 0; for (int i = 0; i < n; i++) s += f(a + (i + 0.5) * h); return s * h; }
static double curve(double x) { return x * x * (3 - x) + (x > 1 ? 0.5 : -0.25); }
static const char *kind(int c) { switch (c) { case ' ': case '\t': case '\n': return "space"; case '0' ... '9': return "digit"; case '+': case '-': case '*': case '/': return "operator"; case '(': return "open"; case ')': return "close"; case 'a' ... 'z': return "lower"; default: return "other"; } }
PROGRAM {
    struct node *tree = 0;
    for (int i = 0; i < 500; i++) tree = insert(tree, (uint32_t)next() % 1000);
    printf("%d\n", height(tree));
    release(tree);
    printf("%d %d\n", queens(6, 0, 0, 0, 0), queens(8, 0, 0, 0, 0));
    unsigned char bytes[1000];
    for (int i = 0; i < 1000; i++) bytes[i] = (unsigned char)next();
    printf("%08x\n", checksum(bytes, sizeof bytes));
    printf("%.6f\n", integrate(curve, 0, 3, 1000));
    for (const char *p = "a + (7*X)\n"; *p; p++) printf("%s ", kind(*p));
    float m[8][8], n[8][8], sum = 0;
    for (int i = 0; i < 8; i++) for (int j = 0; j < 8; j++) { m[i][j] = (float)(i + j); n[i][j] = (float)(i - j); }
    for (int i = 0; i < 8; i++) for (int j = 0; j < 8; j++) for (int k = 0; k < 8; k++) sum += m[i][k] * n[k][j];
    printf("\n%.1f\n", (double)sum);
    return 0;
}
