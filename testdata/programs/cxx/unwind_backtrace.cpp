// backtrace() from destructors that run while an exception unwinds, from handlers and from constructors; names by dladdr.
//@ whole: dladdr finds the cold part of a split function under no name, as with the compiler's own splitting
//@ build: kinds=exec,pie,so
//@ flags: -rdynamic -fno-optimize-sibling-calls -ldl
#include "../program.h"
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
extern "C" NOINLINE void report(const char *where) {
    void *frames[40];
    int n = backtrace(frames, 40);
    std::printf("%s:", where);
    for (int i = 0; i < n; i++) { Dl_info info; if (dladdr((char *)frames[i] - 1, &info) && info.dli_sname && !std::strncmp(info.dli_sname, "level_", 6)) std::printf(" %s", info.dli_sname); }
    std::puts("");
}
struct Reporter { const char *where; explicit Reporter(const char *w) : where(w) { report("constructor"); } NOINLINE ~Reporter() { report(where); } };
extern "C" {
NOINLINE int level_c(int n) { Reporter r("destructor c"); if (n > 1) throw n; return n; }
NOINLINE int level_b(int n) { Reporter r("destructor b"); try { return level_c(n) + 1; } catch (int v) { report("handler b"); if (v > 2) throw; return v * 10; } }
NOINLINE int level_a(int n) { try { return level_b(n) + level_b(n - 1); } catch (int v) { report("handler a"); return -v; } }
}
PROGRAM { for (int n = 0; n < 5; n++) std::printf("%d\n", level_a(n)); return 0; }
