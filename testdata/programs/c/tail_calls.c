// Tail calls: direct, mutual, conditional, through a pointer, to the PLT.
#include "../program.h"
#include <stdio.h>
NOINLINE int is_odd(unsigned n);
NOINLINE int is_even(unsigned n) { if (n == 0) return 1; return is_odd(n - 1); }
NOINLINE int is_odd(unsigned n) { if (n == 0) return 0; return is_even(n - 1); }
NOINLINE int shout(const char *s) { return puts(s); }
NOINLINE long add_one(long x) { return x + 1; }
NOINLINE long twice(long x) { return 2 * x; }
NOINLINE long dispatch(long (*f)(long), long x) { if (x > 100) return add_one(x); if (x < 0) return twice(-x); return f(x); }
NOINLINE long sum(long n, long acc) { return n ? sum(n - 1, acc + n) : dispatch(twice, acc); }
PROGRAM {
    printf("%d %d\n", is_even(100001), is_odd(100001));
    shout("tail");
    printf("%ld %ld %ld %ld\n", dispatch(add_one, 5), dispatch(twice, 5), dispatch(twice, 500), dispatch(add_one, -6));
    printf("%ld %ld\n", sum(5, 0), sum(1000000, 0));
    return 0;
}
