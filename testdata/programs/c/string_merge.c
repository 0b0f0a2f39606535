// Merged strings and constants: suffixes shared, references with addends into them.
//@ flags: -fmerge-all-constants
#include "../program.h"
#include <stdio.h>
static const char *const words[] = {"unbelievable", "believable", "able", "unbelievable" + 2, "table"};
NOINLINE const char *suffix(int n) { switch (n) { case 0: return "believable"; case 1: return "able"; case 2: return "e"; case 3: return "unbelievable"; case 4: return "table"; default: return ""; } }
NOINLINE double scale(double x) { return x * 1.5 + 0.25; }
NOINLINE float scale_float(float x) { return x * 1.5f + 0.25f; }
PROGRAM {
    for (int i = 0; i < 5; i++) printf("%s %s\n", words[i], suffix(i));
    printf("%s\n", words[0] + 7);
    printf("%.3f %.3f\n", scale(2), (double)scale_float(3));
    return 0;
}
