// std::function, lambdas, variant visitation (tables of function pointers), any, optional, tuples.
//@ flags: -std=c++17
#include "../program.h"
#include <any>
#include <cstdio>
#include <functional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>
using Value = std::variant<int, double, std::string, std::vector<int>, char>;
struct Describe {
    std::string operator()(int v) const { return "int " + std::to_string(v); }
    std::string operator()(double v) const { return "double " + std::to_string(v); }
    std::string operator()(const std::string &v) const { return "string " + v; }
    std::string operator()(const std::vector<int> &v) const { return "vector of " + std::to_string(v.size()); }
    std::string operator()(char v) const { return std::string("char ") + v; }
};
NOINLINE std::function<int(int)> compose(std::function<int(int)> f, std::function<int(int)> g) { return [=](int x) { return g(f(x)); }; }
PROGRAM {
    std::vector<Value> values{1, 2.5, std::string("three"), std::vector<int>{4, 4, 4, 4}, 'x'};
    for (const auto &v : values) std::puts(std::visit(Describe{}, v).c_str());
    for (const auto &a : values) for (const auto &b : values) std::printf("%d ", std::visit([](const auto &x, const auto &y) { return (int)(sizeof x * 10 + sizeof y); }, a, b));
    std::function<int(int)> f = [](int x) { return x + 1; };
    for (int i = 0; i < 10; i++) f = compose(f, i & 1 ? std::function<int(int)>([](int x) { return x * 2 % 1001; }) : f);
    std::printf("\n%d\n", f(3));
    std::any any = std::make_tuple(1, std::string("two"));
    try { std::any_cast<int>(any); } catch (const std::bad_any_cast &) { std::puts("bad any"); }
    try { std::get<3>(values[0]); } catch (const std::bad_variant_access &) { std::puts("bad variant"); }
    std::printf("%s\n", std::get<1>(std::any_cast<std::tuple<int, std::string>>(any)).c_str());
    return 0;
}
