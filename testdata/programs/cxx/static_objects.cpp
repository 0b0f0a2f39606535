// Static initialization: across the file, in functions (guards, also when the constructor throws), thread-local with destructors.
//@ flags: -pthread
#include "../program.h"
#include <cstdio>
#include <string>
#include <thread>
struct Logged { std::string name; explicit Logged(const char *n) : name(n) { std::printf("+%s\n", n); } ~Logged() { std::printf("-%s\n", name.c_str()); std::fflush(stdout); } };
static Logged first("first");
static Logged second("second");
inline Logged shared_inline("inline");
NOINLINE Logged &lazy() { static Logged object("lazy"); return object; }
NOINLINE int throwing(int n) { static int value = n < 3 ? throw n : n * 2; return value; }
NOINLINE Logged &per_thread() { thread_local Logged object("thread"); return object; }
PROGRAM {
    std::puts("main");
    for (int i = 0; i < 5; i++) try { std::printf("%d\n", throwing(i)); } catch (int e) { std::printf("thrown %d\n", e); }
    std::printf("%d\n", &lazy() == &lazy());
    std::thread([] { std::printf("%d\n", (int)per_thread().name.size()); }).join();
    per_thread();
    return 0;
}
