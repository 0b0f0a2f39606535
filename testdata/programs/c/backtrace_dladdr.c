// backtrace() in every function of a chain, each frame named by dladdr: tables, symbols and .dynsym must agree.
//@ whole: dladdr finds the cold part of a split function under no name, as with the compiler's own splitting
//@ build: kinds=exec,pie,so
//@ flags: -rdynamic -fno-optimize-sibling-calls -fasynchronous-unwind-tables -ldl
//@ gdb: report
#define _GNU_SOURCE
#include "../program.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <stdio.h>
#include <string.h>
NOINLINE void report(const char *where) {
    void *frames[32];
    int count = backtrace(frames, 32);
    printf("%s:", where);
    for (int i = 0; i < count; i++) {
        Dl_info info;
        // The return address may be the first byte of something else: look one byte back.
        if (!dladdr((char *)frames[i] - 1, &info) || !info.dli_sname) continue;
        if (!strncmp(info.dli_sname, "step_", 5) || !strcmp(info.dli_sname, "report")) printf(" %s", info.dli_sname);
    }
    puts("");
}
NOINLINE int step_d(int n) { report("d"); if (n > 2) report("d large"); else report("d small"); return n + 1; }
NOINLINE int step_c(int n) {
    int r = 0;
    for (int i = 0; i < n; i++) { if (i == 1) report("c"); r += step_d(i * 3); }
    return r;
}
NOINLINE int step_b(int n) {
    char space[n * 16 + 16];
    memset(space, n, sizeof space);
    report("b");
    int r = step_c(n) + space[n];
    switch (n) { case 0: report("b0"); break; case 1: report("b1"); break; case 2: report("b2"); break; case 3: report("b3"); break; case 4: report("b4"); break; }
    return r;
}
NOINLINE int step_a(int n) { report("a"); int r = step_b(n); report("a again"); return r * 2; }
PROGRAM {
    printf("%d\n", step_a(2));
    printf("%d\n", step_a(4));
    return 0;
}
