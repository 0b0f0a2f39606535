// exception_ptr, nested_exception, across threads and futures.
//@ flags: -pthread
#include "../program.h"
#include <cstdio>
#include <exception>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>
NOINLINE int risky(int n) { if (n % 3 == 1) throw std::runtime_error("one of three"); if (n % 3 == 2) throw n; return n * 2; }
NOINLINE void describe(const std::exception &e, int depth) {
    std::printf("%*s%s\n", depth * 2, "", e.what());
    try { std::rethrow_if_nested(e); } catch (const std::exception &inner) { describe(inner, depth + 1); } catch (int v) { std::printf("%*sint %d\n", depth * 2 + 2, "", v); }
}
NOINLINE void wrap(int n) { try { if (n == 0) throw 5; wrap(n - 1); } catch (...) { std::throw_with_nested(std::runtime_error("level")); } }
PROGRAM {
    std::vector<std::exception_ptr> errors(6);
    std::vector<std::thread> threads;
    int results[6] = {};
    for (int i = 0; i < 6; i++) threads.emplace_back([&, i] { try { results[i] = risky(i); } catch (...) { errors[i] = std::current_exception(); } });
    for (auto &t : threads) t.join();
    for (int i = 0; i < 6; i++) {
        if (!errors[i]) { std::printf("%d\n", results[i]); continue; }
        try { std::rethrow_exception(errors[i]); } catch (const std::exception &e) { std::printf("error %s\n", e.what()); } catch (int v) { std::printf("int %d\n", v); }
    }
    auto later = std::async(std::launch::async, [] { return risky(4); });
    try { later.get(); } catch (const std::exception &e) { std::printf("future: %s\n", e.what()); }
    try { wrap(3); } catch (const std::exception &e) { describe(e, 0); }
    return 0;
}
