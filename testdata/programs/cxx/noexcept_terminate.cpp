// An exception leaves a noexcept function: terminate, in a handler that names the exception and exits.
//@ exit: 42
#include "../program.h"
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
static void on_terminate() {
    try { std::rethrow_exception(std::current_exception()); } catch (const std::exception &e) { std::printf("terminated by %s\n", e.what()); }
    std::fflush(stdout);
    std::_Exit(42);
}
NOINLINE void thrower(int n) { if (n > 1) throw std::logic_error("noexcept"); std::puts("quiet"); }
NOINLINE int promises(int n) noexcept { thrower(n); return n; }
PROGRAM { std::set_terminate(on_terminate); std::printf("%d\n", promises(1)); try { promises(2); } catch (...) { std::puts("wrong"); } return 1; }
