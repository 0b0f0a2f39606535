// Variadic functions: the prologue jumps over the vector register saves when there are none.
//@ build: tag=default
//@ build: tag=unoptimized
//@ flags: -O0
#include "../program.h"
#include <stdarg.h>
#include <stdio.h>
NOINLINE double total(const char *kinds, ...) {
    va_list list, copy;
    va_start(list, kinds);
    va_copy(copy, list);
    double sum = 0;
    for (const char *k = kinds; *k; k++)
        switch (*k) {
        case 'i': sum += va_arg(list, int); break;
        case 'd': sum += va_arg(list, double); break;
        case 'l': sum += (double)va_arg(list, long); break;
        case 's': sum += va_arg(list, const char *)[0]; break;
        }
    va_end(list);
    va_end(copy);
    return sum;
}
NOINLINE int forward(char *out, const char *format, ...) { va_list list; va_start(list, format); int n = vsprintf(out, format, list); va_end(list); return n; }
PROGRAM {
    char text[200];
    printf("%.2f\n", total("idlsidlsidls", 1, 2.5, 3L, "A", 4, 5.5, 6L, "B", 7, 8.5, 9L, "C"));
    printf("%.2f\n", total(""));
    int n = forward(text, "%d %s %.3f %c %ld %g", 42, "words", 3.14159, 'x', 1L << 40, 1e10);
    printf("%d %s\n", n, text);
    return 0;
}
