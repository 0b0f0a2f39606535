// Callbacks from libc: qsort, bsearch, atexit order.
#include "../program.h"
#include <stdio.h>
#include <stdlib.h>
static int comparisons;
static int by_value(const void *a, const void *b) { comparisons++; int x = *(const int *)a, y = *(const int *)b; return x < y ? -1 : x > y; }
static int by_last_digit(const void *a, const void *b) { int x = *(const int *)a, y = *(const int *)b; return x % 10 != y % 10 ? x % 10 - y % 10 : by_value(a, b); }
static void goodbye(void) { puts("goodbye"); fflush(stdout); }
static void first_goodbye(void) { puts("first goodbye"); }
PROGRAM {
    atexit(goodbye);
    atexit(first_goodbye);
    int data[64];
    unsigned seed = 12345;
    for (int i = 0; i < 64; i++) { seed = seed * 1103515245 + 12345; data[i] = (seed >> 16) % 1000; }
    qsort(data, 64, sizeof *data, by_last_digit);
    for (int i = 0; i < 64; i += 9) printf("%d ", data[i]);
    qsort(data, 64, sizeof *data, by_value);
    int key = data[40];
    int *found = bsearch(&key, data, 64, sizeof *data, by_value);
    printf("\n%d %d\n", *found == key, comparisons > 64);
    return 0;
}
