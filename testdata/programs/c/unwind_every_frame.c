// _Unwind_Backtrace from many places of a function with many frame shapes; depth and CFA order are checked.
//@ flags: -fasynchronous-unwind-tables -fno-optimize-sibling-calls
#include "../program.h"
#include <alloca.h>
#include <stdio.h>
#include <string.h>
#include <unwind.h>
struct walk { int depth; _Unwind_Word last; int ordered; };
static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *data) {
    struct walk *w = data;
    _Unwind_Word cfa = _Unwind_GetCFA(context);
    if (cfa <= w->last && w->depth > 1) w->ordered = 0;
    w->last = cfa;
    w->depth++;
    return _URC_NO_REASON;
}
static int base_depth;
NOINLINE int depth(void) {
    struct walk w = {0, 0, 1};
    _Unwind_Backtrace(visit, &w);
    if (!w.ordered) puts("CFA not ordered");
    return w.depth;
}
NOINLINE int many_registers(int a, int b, int c, int d, int e, int f) {
    int x = depth() - base_depth;
    if (a > b) { x += 100 * (depth() - base_depth); if (c > d) x += 10000 * (depth() - base_depth); else e++; }
    return x + a * b + c * d + e * f;
}
NOINLINE int dynamic_frame(int n) {
    char *p = alloca(n * 32);
    memset(p, 1, n * 32);
    int x = depth() - base_depth;
    for (int i = 0; i < n; i++) { if (p[i] != 1) return -1; if (i == 3) x += 1000 * many_registers(i, 1, 2, 3, 4, 5); }
    return x;
}
NOINLINE int early_return(int n) {
    if (n < 2) return n;
    int x = dynamic_frame(n);
    if (x & 1) return x + depth() - base_depth;
    return x * early_return(n - 2) % 100003;
}
NOINLINE int recurse(int n) { return n == 0 ? depth() - base_depth : recurse(n - 1) + early_return(n & 3); }
PROGRAM {
    base_depth = depth();
    printf("%d %d %d\n", many_registers(5, 3, 4, 2, 1, 6), dynamic_frame(5), early_return(6));
    printf("%d\n", recurse(20));
    return 0;
}
