// A tiny stack machine in two forms: a dense switch (jump table), and computed goto (labels as values).
#include "check.h"

#include <stdexcept>

namespace {

enum Op : unsigned char { push, add, sub, mul, dup, swap, drop, jump_if, divide, modulo, bit_and, bit_xor, shift, negate, halt, op_count };

struct Code {
  Op op;
  std::int64_t operand;
};

struct MachineError : std::domain_error {
  using std::domain_error::domain_error;
};

__attribute__((noinline)) void fail_if_zero(std::int64_t value) {
  if (value == 0) throw MachineError("division by zero");
}

struct Machine {
  std::int64_t stack[64];
  int top = 0;
  void put(std::int64_t value) {
    if (top == 64) throw MachineError("stack overflow");
    stack[top++] = value;
  }
  std::int64_t get() {
    if (top == 0) throw MachineError("stack underflow");
    return stack[--top];
  }
};

// Wrapping arithmetic on purpose: overflow of signed values would be undefined.
std::int64_t wrap(std::uint64_t value) { return static_cast<std::int64_t>(value); }
std::uint64_t bits(std::int64_t value) { return static_cast<std::uint64_t>(value); }

__attribute__((noinline)) std::int64_t run_switch(const std::vector<Code> &program, int fuel) {
  Machine m;
  std::size_t at = 0;
  while (fuel-- > 0 && at < program.size()) {
    const Code &code = program[at++];
    switch (code.op) {
      case push: m.put(code.operand); break;
      case add: { auto b = m.get(), a = m.get(); m.put(wrap(bits(a) + bits(b))); break; }
      case sub: { auto b = m.get(), a = m.get(); m.put(wrap(bits(a) - bits(b))); break; }
      case mul: { auto b = m.get(), a = m.get(); m.put(wrap(bits(a) * bits(b))); break; }
      case dup: { auto a = m.get(); m.put(a); m.put(a); break; }
      case swap: { auto b = m.get(), a = m.get(); m.put(b); m.put(a); break; }
      case drop: m.get(); break;
      case jump_if: if (m.get() != 0) at = static_cast<std::size_t>(code.operand); break;
      case divide: { auto b = m.get(), a = m.get(); fail_if_zero(b); m.put(b == -1 ? wrap(-bits(a)) : a / b); break; }
      case modulo: { auto b = m.get(), a = m.get(); fail_if_zero(b); m.put(b == -1 ? 0 : a % b); break; }
      case bit_and: { auto b = m.get(), a = m.get(); m.put(a & b); break; }
      case bit_xor: { auto b = m.get(), a = m.get(); m.put(a ^ b); break; }
      case shift: { auto b = m.get(), a = m.get(); m.put(wrap(bits(a) << (bits(b) & 63))); break; }
      case negate: m.put(wrap(-bits(m.get()))); break;
      case halt: return m.get();
      case op_count: __builtin_unreachable();
    }
  }
  return m.top > 0 ? m.get() : -1;
}

__attribute__((noinline)) std::int64_t run_threaded(const std::vector<Code> &program, int fuel) {
  static const void *const labels[op_count] = {&&l_push, &&l_add, &&l_sub, &&l_mul, &&l_dup, &&l_swap, &&l_drop, &&l_jump_if,
                                               &&l_divide, &&l_modulo, &&l_and, &&l_xor, &&l_shift, &&l_negate, &&l_halt};
  Machine m;
  std::size_t at = 0;
  const Code *code = nullptr;
  std::int64_t a = 0, b = 0;
#define NEXT                                                   \
  do {                                                         \
    if (fuel-- <= 0 || at >= program.size()) goto l_end;       \
    code = &program[at++];                                     \
    goto *labels[code->op];                                    \
  } while (0)
  NEXT;
l_push: m.put(code->operand); NEXT;
l_add: b = m.get(), a = m.get(); m.put(wrap(bits(a) + bits(b))); NEXT;
l_sub: b = m.get(), a = m.get(); m.put(wrap(bits(a) - bits(b))); NEXT;
l_mul: b = m.get(), a = m.get(); m.put(wrap(bits(a) * bits(b))); NEXT;
l_dup: a = m.get(); m.put(a); m.put(a); NEXT;
l_swap: b = m.get(), a = m.get(); m.put(b); m.put(a); NEXT;
l_drop: m.get(); NEXT;
l_jump_if: if (m.get() != 0) at = static_cast<std::size_t>(code->operand); NEXT;
l_divide: b = m.get(), a = m.get(); fail_if_zero(b); m.put(b == -1 ? wrap(-bits(a)) : a / b); NEXT;
l_modulo: b = m.get(), a = m.get(); fail_if_zero(b); m.put(b == -1 ? 0 : a % b); NEXT;
l_and: b = m.get(), a = m.get(); m.put(a & b); NEXT;
l_xor: b = m.get(), a = m.get(); m.put(a ^ b); NEXT;
l_shift: b = m.get(), a = m.get(); m.put(wrap(bits(a) << (bits(b) & 63))); NEXT;
l_negate: m.put(wrap(-bits(m.get()))); NEXT;
l_halt: return m.get();
l_end: return m.top > 0 ? m.get() : -1;
#undef NEXT
}

std::vector<Code> random_program(Random &random, int length) {
  std::vector<Code> program;
  for (int i = 0; i < length; ++i) {
    const bool grow = random.below(2) == 0;
    const Op op = grow ? push : static_cast<Op>(random.below(halt));
    const std::int64_t operand = op == jump_if ? random.below(static_cast<std::uint32_t>(length)) : random.below(100);
    program.push_back({op, operand});
  }
  program.push_back({halt, 0});
  return program;
}

template <typename Run>
std::int64_t guarded(Run run, const std::vector<Code> &program, int fuel) {
  try {
    return run(program, fuel);
  } catch (const MachineError &error) {
    return -1000 - error.what()[6];
  }
}

}  // namespace

std::uint64_t interpreter_part(Random &random, int rounds) {
  // 10 + 9 + … + 1 by a loop: sum and counter on the stack.
  const std::vector<Code> sum_of_ten = {{push, 0},  {push, 10}, {dup, 0}, {push, 0},  {bit_xor, 0}, {drop, 0}, {swap, 0}, {push, 1}, {add, 0},
                                        {swap, 0},  {push, 1},  {sub, 0}, {dup, 0},   {jump_if, 6}, {drop, 0}, {halt, 0}};
  CHECK(run_switch(sum_of_ten, 1000) == 10);
  CHECK(run_threaded(sum_of_ten, 1000) == 10);
  CHECK(guarded(run_switch, {{push, 1}, {push, 0}, {divide, 0}}, 10) == -1000 - 'o');
  CHECK(guarded(run_threaded, {{add, 0}}, 10) == -1000 - 'u');

  std::uint64_t sum = 0;
  for (int round = 0; round < rounds * 4; ++round) {
    const std::vector<Code> program = random_program(random, 10 + static_cast<int>(random.below(60)));
    const std::int64_t one = guarded(run_switch, program, 400);
    const std::int64_t other = guarded(run_threaded, program, 400);
    CHECK(one == other);
    sum = sum * 33 + bits(one);
  }
  return sum;
}
