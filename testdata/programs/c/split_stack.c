// -fsplit-stack: a function that needs a new piece of stack calls __morestack, which goes on behind the return that follows.
//@ build: compilers=gcc kinds=exec,pie,static linkers=ld,gold
//@ flags: -fsplit-stack
#include "../program.h"
#include <stdio.h>
NOINLINE int leaf(int n, char *room) {
    room[n & 63] = (char)n;
    return room[n * 7 & 63] + n;
}
NOINLINE int deep(int n) {
    char room[4096];
    for (int i = 0; i < 64; i++) room[i] = (char)(i + n);
    if (n % 500 == 3) puts("far down");
    if (n <= 0) return leaf(n, room);
    int below = deep(n - 1);
    if (below > 1000000) { puts("big"); return leaf(below, room); }
    return below + leaf(n, room) % 3 + (n & 1 ? room[n & 63] : -room[n & 31]);
}
PROGRAM {
    for (int i = 0; i < 3; i++) printf("%d\n", deep(1000 + i * 371));
    return 0;
}
