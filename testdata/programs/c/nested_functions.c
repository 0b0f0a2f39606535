// gcc's nested functions with a static chain, called directly so that no trampoline is needed; non-local goto.
//@ build: compilers=gcc
#include "../program.h"
#include <stdio.h>
NOINLINE int outer(int n) {
    __label__ done;
    int total = 0;
    __attribute__((noinline)) void visit(int k) {
        if (total > 40) goto done;
        total += k;
        if (k > 0) visit(k - 1);
    }
    for (int i = 0; i < n; i++) visit(i);
    return total;
done:
    return total + 1000;
}
PROGRAM { for (int i = 0; i < 10; i++) printf("%d\n", outer(i)); return 0; }
