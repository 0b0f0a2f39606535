// Virtual functions: single, multiple and virtual inheritance, thunks, covariant results, calls in constructors.
#include "../program.h"
#include <cstdio>
#include <memory>
#include <vector>
struct Shape { virtual ~Shape() { std::puts("~Shape"); } virtual double area() const = 0; virtual const char *name() const { return "shape"; } virtual Shape *copy() const = 0; };
struct Printable { virtual ~Printable() {} virtual void print() const = 0; };
struct Square : Shape, Printable { double side; explicit Square(double s) : side(s) { std::printf("made %s\n", name()); } double area() const override { return side * side; } const char *name() const override { return "square"; } void print() const override { std::printf("[%g]\n", side); } Square *copy() const override { return new Square(*this); } };
struct Disc final : Shape, Printable { double r; explicit Disc(double x) : r(x) {} double area() const override { return 3 * r * r; } void print() const override { std::printf("(%g)\n", r); } Disc *copy() const override { return new Disc(*this); } };
struct Root { int x = 1; virtual int value() { return x; } virtual ~Root() {} };
struct A : virtual Root { int a = 2; int value() override { return Root::value() * 10 + a; } };
struct B : virtual Root { int b = 3; virtual int other() { return b; } };
struct C : A, B { int c = 4; int value() override { return A::value() * 10 + c; } int other() override { return B::other() + value(); } };
NOINLINE double total(const std::vector<std::unique_ptr<Shape>> &shapes) { double sum = 0; for (const auto &s : shapes) sum += s->area(); return sum; }
PROGRAM {
    std::vector<std::unique_ptr<Shape>> shapes;
    shapes.emplace_back(new Square(2));
    shapes.emplace_back(new Disc(1));
    shapes.emplace_back(shapes[0]->copy());
    std::printf("%g\n", total(shapes));
    for (const auto &s : shapes) { std::puts(s->name()); if (auto *p = dynamic_cast<Printable *>(s.get())) p->print(); }
    C c;
    Root *root = &c;
    B *b = &c;
    std::printf("%d %d\n", root->value(), b->other());
    return 0;
}
