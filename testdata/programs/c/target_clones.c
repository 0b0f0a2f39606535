// Function multiversioning: the compiler writes the resolver.
//@ build: compilers=gcc kinds=exec,pie,so,static
//@ flags: -O3
#include "../program.h"
#include <stdio.h>
__attribute__((target_clones("default", "avx2", "sse4.2"))) int dot(const int *a, const int *b, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}
PROGRAM {
    int a[100], b[100];
    for (int i = 0; i < 100; i++) { a[i] = i; b[i] = 100 - i; }
    printf("%d %d\n", dot(a, b, 100), dot(a, b, 7));
    return 0;
}
