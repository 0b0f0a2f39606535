// C++20 coroutines: frames hold addresses of resume and destroy functions; exceptions out of a coroutine.
//@ flags: -std=c++20
#include "../program.h"
#include <coroutine>
#include <cstdio>
#include <exception>
#include <utility>
struct Generator {
    struct promise_type {
        int value = 0;
        std::exception_ptr error;
        Generator get_return_object() { return Generator{std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        std::suspend_always yield_value(int v) { value = v; return {}; }
        void return_void() {}
        void unhandled_exception() { error = std::current_exception(); }
    };
    std::coroutine_handle<promise_type> handle;
    explicit Generator(std::coroutine_handle<promise_type> h) : handle(h) {}
    Generator(Generator &&other) noexcept : handle(std::exchange(other.handle, {})) {}
    ~Generator() { if (handle) handle.destroy(); }
    bool next() { handle.resume(); if (handle.promise().error) std::rethrow_exception(std::exchange(handle.promise().error, {})); return !handle.done(); }
};
struct Trace { const char *name; ~Trace() { std::printf("~%s\n", name); } };
Generator fibonacci(int n) { Trace t{"fibonacci"}; int a = 0, b = 1; for (int i = 0; i < n; i++) { co_yield a; a = std::exchange(b, a + b); } }
Generator throws(int n) { Trace t{"throws"}; for (int i = 0;; i++) { if (i == n) throw n; co_yield i * i; } }
Generator chained(int n) { auto g = fibonacci(n); while (g.next()) if (g.handle.promise().value % 2 == 0) co_yield g.handle.promise().value; }
PROGRAM {
    auto g = chained(15);
    while (g.next()) std::printf("%d ", g.handle.promise().value);
    std::puts("");
    try { auto t = throws(4); while (t.next()) std::printf("%d ", t.handle.promise().value); } catch (int e) { std::printf("caught %d\n", e); }
    { auto abandoned = fibonacci(5); abandoned.next(); }
    return 0;
}
