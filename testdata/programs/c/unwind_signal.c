// Unwinding through a signal frame: from the handler to main, naming each function.
//@ flags: -fasynchronous-unwind-tables -fno-omit-frame-pointer
//@ clang: -fno-optimize-sibling-calls
//@ gcc: -fno-optimize-sibling-calls
#define _GNU_SOURCE
#include "../program.h"
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <unwind.h>
static sigjmp_buf recover;
static void on_fault(int signal);
NOINLINE int leaf(volatile int *p) { return *p + 1; }
NOINLINE int middle(volatile int *p, int n) { int r = leaf(p); return r + n; }
NOINLINE int outer(int n) { volatile int *p = (int *)8; int r = middle(p, n) * 2; return r; }
static const struct { void *start; const char *name; } known[] = {{on_fault, "handler"}, {leaf, "leaf"}, {middle, "middle"}, {outer, "outer"}};
static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *count) {
    int before = 0;
    _Unwind_Ptr ip = _Unwind_GetIPInfo(context, &before);
    void *function = _Unwind_FindEnclosingFunction((void *)(ip + (before ? 1 : 0))) /* it looks one byte back */;
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].start == function) { printf("%s%s\n", known[i].name, before ? " interrupted" : ""); ++*(int *)count; }
    return _URC_NO_REASON;
}
static void on_fault(int signal) {
    int count = 0;
    _Unwind_Backtrace(visit, &count);
    printf("signal %d, %d known frames\n", signal, count);
    fflush(stdout);
    siglongjmp(recover, 1);
}
PROGRAM {
    signal(SIGSEGV, on_fault);
    if (sigsetjmp(recover, 1) == 0) return outer(3);
    puts("recovered");
    return 0;
}
