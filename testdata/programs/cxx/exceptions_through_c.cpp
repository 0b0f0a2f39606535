// An exception through frames of C code and of the C library (qsort, bsearch).
#include "../program.h"
#include <cstdio>
#include <cstdlib>
extern "C" NOINLINE int c_frame(int (*callback)(int), int n) { int r = callback(n); return r + 1; }
extern "C" NOINLINE int c_frame_with_locals(int (*callback)(int), int n) { volatile char space[300]; space[n] = 1; int r = c_frame(callback, n); return r + space[n]; }
static int throws(int n) { if (n > 2) throw n * 10; return n; }
static int comparisons;
static int compare(const void *a, const void *b) { if (++comparisons == 20) throw "enough"; return *(const int *)a - *(const int *)b; }
PROGRAM {
    for (int n = 0; n < 6; n++) try { std::printf("%d\n", c_frame_with_locals(throws, n)); } catch (int v) { std::printf("caught %d\n", v); }
    int data[] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11, 12, 13};
    try { std::qsort(data, 13, sizeof *data, compare); std::puts("sorted"); } catch (const char *s) { std::printf("%s after %d\n", s, comparisons); }
    return 0;
}
