// Label addresses in variables, structures and the heap; states that suspend and resume.
#include "../program.h"
#include <stdio.h>
#include <stdlib.h>
struct machine { void *resume; int count; };
NOINLINE int advance_machine(struct machine *m) {
    if (m->resume) goto *m->resume;
    m->count = 10;
    m->resume = &&second;
    return m->count;
second:
    m->count += 5;
    m->resume = m->count > 20 ? &&last : &&second;
    return m->count;
last:
    puts("last");
    m->resume = 0;
    return -1;
}
NOINLINE int pick(int n) {
    void *labels[4];
    labels[0] = &&zero; labels[1] = &&one; labels[2] = &&two; labels[3] = &&three;
    goto *labels[n & 3];
zero: return 100;
one: puts("one"); return 101;
two: return 102 + n;
three: puts("three"); goto zero;
}
PROGRAM {
    struct machine *m = calloc(1, sizeof *m);
    for (int i = 0; i < 9; i++) printf("%d\n", advance_machine(m));
    for (int i = 0; i < 6; i++) printf("%d\n", pick(i));
    free(m);
    return 0;
}
