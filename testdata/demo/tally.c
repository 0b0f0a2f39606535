/* tally: an interpreter of a small language, the program that `postlink demo` carries.
 *
 * Source text (script.h) -> tokens -> bytecode -> a stack machine with one big switch. It needs no C library: two
 * system calls do, so the linked program runs on every x86-64 Linux. Errors are handled where they happen and no path
 * is marked likely or unlikely: the compiler cannot know which code is hot, and an execution profile can tell it. */
#include "script.h"

typedef unsigned char u8;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

/* ---- the system ---- */

static long system_call(long number, long first, long second, long third) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(second), "d"(third) : "rcx", "r11", "memory");
  return result;
}

static char out_buffer[4096];
static u32 out_size;

static void flush(void) {
  u32 done = 0;
  while (done < out_size) {
    long written = system_call(1, 1, (long)(out_buffer + done), out_size - done);
    if (written <= 0) break;
    done += (u32)written;
  }
  out_size = 0;
}

static void put_char(char c) {
  if (out_size == sizeof out_buffer) flush();
  out_buffer[out_size++] = c;
}

static void put_text(const char *text) {
  while (*text) put_char(*text++);
}

static void put_number(i64 value) {
  char digits[24];
  u32 count = 0;
  u64 rest = value < 0 ? 0 - (u64)value : (u64)value;
  if (value < 0) put_char('-');
  do {
    digits[count++] = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest);
  while (count) put_char(digits[--count]);
}

static void put_hexadecimal(i64 value) {
  put_text("0x");
  for (int shift = 60, begun = 0; shift >= 0; shift -= 4) {
    u32 digit = (u32)((u64)value >> shift & 15);
    begun |= digit != 0 || shift == 0;
    if (begun) put_char((char)(digit < 10 ? '0' + digit : 'a' + digit - 10));
  }
}

/* How `print x` and `print % x` write: addresses of code in writable data. */
void (*writers[2])(i64) = {put_number, put_hexadecimal};

/* ---- errors ---- */

enum error {
  OK, BAD_CHARACTER, BAD_NUMBER, UNCLOSED_TEXT, EXPECTED_NAME, EXPECTED_EXPRESSION, EXPECTED_TOKEN, UNKNOWN_NAME, UNKNOWN_FUNCTION,
  TOO_MANY_NAMES, TOO_MUCH_CODE, WRONG_ARGUMENTS, STACK_OVERFLOW, STACK_UNDERFLOW, DIVISION_BY_ZERO, OUT_OF_RANGE, BAD_SHIFT,
  CALLS_TOO_DEEP, NO_MEMORY, BAD_CODE
};

static u32 error_count;

static enum error complain(enum error error, u32 line, i64 detail) {
  error_count++;
  put_text("line ");
  put_number(line);
  put_text(": ");
  switch (error) {
    case BAD_CHARACTER: put_text("no token begins with character "); break;
    case BAD_NUMBER: put_text("a number is too large after digit "); break;
    case UNCLOSED_TEXT: put_text("a text has no end, begun at offset "); break;
    case EXPECTED_NAME: put_text("a name is missing before token "); break;
    case EXPECTED_EXPRESSION: put_text("an expression is missing before token "); break;
    case EXPECTED_TOKEN: put_text("another token is expected, of kind "); break;
    case UNKNOWN_NAME: put_text("this name was not declared, its hash is "); break;
    case UNKNOWN_FUNCTION: put_text("this function was not declared, its hash is "); break;
    case TOO_MANY_NAMES: put_text("too many names, the limit is "); break;
    case TOO_MUCH_CODE: put_text("too much code, the limit is "); break;
    case WRONG_ARGUMENTS: put_text("wrong number of arguments: "); break;
    case STACK_OVERFLOW: put_text("the stack is full at instruction "); break;
    case STACK_UNDERFLOW: put_text("the stack is empty at instruction "); break;
    case DIVISION_BY_ZERO: put_text("division by zero at instruction "); break;
    case OUT_OF_RANGE: put_text("no element of the memory has index "); break;
    case BAD_SHIFT: put_text("shift by "); break;
    case CALLS_TOO_DEEP: put_text("calls are nested too deep: "); break;
    case NO_MEMORY: put_text("not enough memory for elements: "); break;
    default: put_text("the code is damaged at instruction "); break;
  }
  put_number(detail);
  put_char('\n');
  return error;
}

/* ---- tokens ---- */

enum token {
  T_END, T_NUMBER, T_NAME, T_TEXT, T_LET, T_FN, T_IF, T_ELSE, T_WHILE, T_RETURN, T_PRINT, T_OPEN, T_CLOSE, T_BEGIN, T_STOP, T_INDEX,
  T_INDEX_END, T_COMMA, T_SEMICOLON, T_ASSIGN, T_ADD, T_SUB, T_MUL, T_DIV, T_MOD, T_AND, T_OR, T_XOR, T_SHL, T_SHR, T_EQ, T_NE, T_LT, T_LE,
  T_GT, T_GE, T_NOT, T_BOTH, T_EITHER, T_BAD
};

struct lexer {
  const char *text;
  u32 at, line;
  enum token token;
  i64 number;
  u32 hash, start, size;
};

static int is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static int is_digit(char c) { return c >= '0' && c <= '9'; }

static int is_word(const struct lexer *lexer, const char *word) {
  u32 i = 0;
  for (; i < lexer->size; i++)
    if (word[i] != lexer->text[lexer->start + i] || !word[i]) return 0;
  return !word[i];
}

static enum token keyword(const struct lexer *lexer) {
  switch (lexer->text[lexer->start]) {
    case 'e': return is_word(lexer, "else") ? T_ELSE : T_NAME;
    case 'f': return is_word(lexer, "fn") ? T_FN : T_NAME;
    case 'i': return is_word(lexer, "if") ? T_IF : T_NAME;
    case 'l': return is_word(lexer, "let") ? T_LET : T_NAME;
    case 'p': return is_word(lexer, "print") ? T_PRINT : T_NAME;
    case 'r': return is_word(lexer, "return") ? T_RETURN : T_NAME;
    case 'w': return is_word(lexer, "while") ? T_WHILE : T_NAME;
    default: return T_NAME;
  }
}

static enum token pair(struct lexer *lexer, char second, enum token both, enum token one) {
  if (lexer->text[lexer->at] != second) return one;
  lexer->at++;
  return both;
}

static enum error next(struct lexer *lexer) {
  for (;;) {
    char c = lexer->text[lexer->at];
    if (c == '\n') lexer->line++;
    if (c == '#') {
      while (lexer->text[lexer->at] && lexer->text[lexer->at] != '\n') lexer->at++;
      continue;
    }
    if (c != ' ' && c != '\n' && c != '\t') break;
    lexer->at++;
  }
  char c = lexer->text[lexer->at];
  lexer->start = lexer->at;
  if (is_digit(c)) {
    i64 value = 0;
    while (is_digit(lexer->text[lexer->at])) {
      if (value > 900000000000000000LL) {
        lexer->token = T_BAD;
        return complain(BAD_NUMBER, lexer->line, lexer->at - lexer->start);
      }
      value = value * 10 + (lexer->text[lexer->at++] - '0');
    }
    lexer->number = value;
    lexer->token = T_NUMBER;
    return OK;
  }
  if (is_letter(c)) {
    u32 hash = 2166136261u;
    while (is_letter(lexer->text[lexer->at]) || is_digit(lexer->text[lexer->at]))
      hash = (hash ^ (u8)lexer->text[lexer->at++]) * 16777619u;
    lexer->hash = hash;
    lexer->size = lexer->at - lexer->start;
    lexer->token = keyword(lexer);
    return OK;
  }
  if (c == '"') {
    u32 begun = lexer->at++;
    while (lexer->text[lexer->at] != '"') {
      if (!lexer->text[lexer->at] || lexer->text[lexer->at] == '\n') {
        lexer->token = T_BAD;
        return complain(UNCLOSED_TEXT, lexer->line, begun);
      }
      lexer->at++;
    }
    lexer->start = begun + 1;
    lexer->size = lexer->at - lexer->start;
    lexer->at++;
    lexer->token = T_TEXT;
    return OK;
  }
  if (c) lexer->at++;
  switch (c) {
    case 0: lexer->token = T_END; return OK;
    case '(': lexer->token = T_OPEN; return OK;
    case ')': lexer->token = T_CLOSE; return OK;
    case '{': lexer->token = T_BEGIN; return OK;
    case '}': lexer->token = T_STOP; return OK;
    case '[': lexer->token = T_INDEX; return OK;
    case ']': lexer->token = T_INDEX_END; return OK;
    case ',': lexer->token = T_COMMA; return OK;
    case ';': lexer->token = T_SEMICOLON; return OK;
    case '+': lexer->token = T_ADD; return OK;
    case '-': lexer->token = T_SUB; return OK;
    case '*': lexer->token = T_MUL; return OK;
    case '/': lexer->token = T_DIV; return OK;
    case '%': lexer->token = T_MOD; return OK;
    case '^': lexer->token = T_XOR; return OK;
    case '&': lexer->token = pair(lexer, '&', T_BOTH, T_AND); return OK;
    case '|': lexer->token = pair(lexer, '|', T_EITHER, T_OR); return OK;
    case '=': lexer->token = pair(lexer, '=', T_EQ, T_ASSIGN); return OK;
    case '!': lexer->token = pair(lexer, '=', T_NE, T_NOT); return OK;
    case '<': lexer->token = pair(lexer, '<', T_SHL, pair(lexer, '=', T_LE, T_LT)); return OK;
    case '>': lexer->token = pair(lexer, '>', T_SHR, pair(lexer, '=', T_GE, T_GT)); return OK;
    default: lexer->token = T_BAD; return complain(BAD_CHARACTER, lexer->line, (u8)c);
  }
}

/* ---- bytecode ---- */

enum op {
  O_HALT, O_PUSH, O_LOAD, O_STORE, O_LOAD_GLOBAL, O_STORE_GLOBAL, O_GET, O_SET, O_ADD, O_SUB, O_MUL, O_DIV, O_MOD, O_AND, O_OR, O_XOR,
  O_SHL, O_SHR, O_EQ, O_NE, O_LT, O_LE, O_GT, O_GE, O_NOT, O_NEGATE, O_JUMP, O_JUMP_IF_NOT, O_JUMP_IF, O_CALL, O_RETURN, O_DROP,
  O_PRINT, O_PRINT_TEXT, O_ADD_NUMBER, O_LESS_JUMP
};

struct instruction {
  enum op op;
  u32 line;
  i64 operand;
};

enum { MAX_CODE = 8192, MAX_NAMES = 128, MAX_FUNCTIONS = 64 };

struct function {
  u32 hash, entry, parameters, locals;
};

static struct instruction code[MAX_CODE];
static struct function functions[MAX_FUNCTIONS];
static u32 locals[MAX_NAMES], globals[MAX_NAMES];
static u32 code_size, joined, function_count, local_count, local_limit, global_count;
static int in_function;
static struct lexer lexer;

static enum error emit(enum op op, i64 operand) {
  if (code_size == MAX_CODE) return complain(TOO_MUCH_CODE, lexer.line, MAX_CODE);
  /* Code that is jumped to must not be merged with what stands before it. */
  struct instruction *last = code_size > joined ? &code[code_size - 1] : 0;
  if (op == O_ADD && last && last->op == O_PUSH) {
    last->op = O_ADD_NUMBER;
    return OK;
  }
  if (op == O_SUB && last && last->op == O_PUSH) {
    last->op = O_ADD_NUMBER;
    last->operand = -last->operand;
    return OK;
  }
  if (op == O_JUMP_IF_NOT && last && last->op == O_LT) {
    last->op = O_LESS_JUMP;
    last->operand = operand;
    return OK;
  }
  code[code_size].op = op;
  code[code_size].line = lexer.line;
  code[code_size++].operand = operand;
  return OK;
}

static enum error expect(enum token token) {
  if (lexer.token != token) return complain(EXPECTED_TOKEN, lexer.line, token);
  return next(&lexer);
}

static int find(const u32 *names, u32 count, u32 hash) {
  for (u32 i = count; i-- > 0;)
    if (names[i] == hash) return (int)i;
  return -1;
}

static int find_function(u32 hash) {
  for (u32 i = 0; i < function_count; i++)
    if (functions[i].hash == hash) return (int)i;
  return -1;
}

static enum error expression(u32 level);

static enum error call(u32 hash) {
  int found = find_function(hash);
  if (found < 0) return complain(UNKNOWN_FUNCTION, lexer.line, hash);
  u32 arguments = 0;
  enum error error = next(&lexer);
  while (!error && lexer.token != T_CLOSE) {
    error = expression(0);
    arguments++;
    if (!error && lexer.token == T_COMMA) error = next(&lexer);
  }
  if (error) return error;
  if (arguments != functions[found].parameters) return complain(WRONG_ARGUMENTS, lexer.line, arguments);
  if ((error = next(&lexer))) return error;
  return emit(O_CALL, found);
}

static enum error load(u32 hash) {
  int found = in_function ? find(locals, local_count, hash) : -1;
  if (found >= 0) return emit(O_LOAD, found);
  found = find(globals, global_count, hash);
  if (found < 0) return complain(UNKNOWN_NAME, lexer.line, hash);
  return emit(O_LOAD_GLOBAL, found);
}

static enum error operand(void) {
  enum error error;
  u32 hash = lexer.hash;
  switch (lexer.token) {
    case T_NUMBER:
      if ((error = emit(O_PUSH, lexer.number))) return error;
      return next(&lexer);
    case T_NAME:
      if ((error = next(&lexer))) return error;
      return lexer.token == T_OPEN ? call(hash) : load(hash);
    case T_INDEX:
      if ((error = next(&lexer)) || (error = expression(0)) || (error = expect(T_INDEX_END))) return error;
      return emit(O_GET, 0);
    case T_OPEN:
      if ((error = next(&lexer)) || (error = expression(0))) return error;
      return expect(T_CLOSE);
    case T_SUB:
      if ((error = next(&lexer)) || (error = operand())) return error;
      return emit(O_NEGATE, 0);
    case T_NOT:
      if ((error = next(&lexer)) || (error = operand())) return error;
      return emit(O_NOT, 0);
    default:
      return complain(EXPECTED_EXPRESSION, lexer.line, lexer.token);
  }
}

static u32 strength(enum token token, enum op *op) {
  switch (token) {
    case T_EITHER: *op = O_JUMP_IF; return 1;
    case T_BOTH: *op = O_JUMP_IF_NOT; return 2;
    case T_EQ: *op = O_EQ; return 3;
    case T_NE: *op = O_NE; return 3;
    case T_LT: *op = O_LT; return 3;
    case T_LE: *op = O_LE; return 3;
    case T_GT: *op = O_GT; return 3;
    case T_GE: *op = O_GE; return 3;
    case T_OR: *op = O_OR; return 4;
    case T_XOR: *op = O_XOR; return 4;
    case T_AND: *op = O_AND; return 5;
    case T_SHL: *op = O_SHL; return 6;
    case T_SHR: *op = O_SHR; return 6;
    case T_ADD: *op = O_ADD; return 7;
    case T_SUB: *op = O_SUB; return 7;
    case T_MUL: *op = O_MUL; return 8;
    case T_DIV: *op = O_DIV; return 8;
    case T_MOD: *op = O_MOD; return 8;
    default: return 0;
  }
}

static enum error expression(u32 level) {
  enum error error = operand();
  enum op op = O_HALT;
  u32 found;
  while (!error && (found = strength(lexer.token, &op)) > level) {
    if ((error = next(&lexer))) return error;
    if (op == O_JUMP_IF || op == O_JUMP_IF_NOT) {
      /* a && b: the value of a is 0, or that of b decides */
      u32 branch = code_size;
      i64 constant = op == O_JUMP_IF;
      if ((error = emit(O_NOT, 0)) || (error = emit(op == O_JUMP_IF ? O_JUMP_IF_NOT : O_JUMP_IF, 0))) return error;
      branch = code_size - 1;
      if ((error = expression(found)) || (error = emit(O_JUMP, code_size + 2))) return error;
      code[branch].operand = code_size;
      error = emit(O_PUSH, constant);
      joined = code_size;
    } else {
      error = expression(found);
      if (!error) error = emit(op, 0);
    }
  }
  return error;
}

static enum error block(void);

static enum error declare(u32 *names, u32 *count, u32 hash) {
  if (*count == MAX_NAMES) return complain(TOO_MANY_NAMES, lexer.line, MAX_NAMES);
  names[(*count)++] = hash;
  return OK;
}

static enum error store(u32 hash) {
  int found = in_function ? find(locals, local_count, hash) : -1;
  if (found >= 0) return emit(O_STORE, found);
  found = find(globals, global_count, hash);
  if (found < 0) return complain(UNKNOWN_NAME, lexer.line, hash);
  return emit(O_STORE_GLOBAL, found);
}

static enum error condition(u32 *branch) {
  enum error error;
  if ((error = next(&lexer)) || (error = expression(0)) || (error = emit(O_JUMP_IF_NOT, 0))) return error;
  *branch = code_size - 1;
  return OK;
}

static enum error statement(void) {
  enum error error;
  u32 branch, start, hash;
  switch (lexer.token) {
    case T_LET:
      if ((error = next(&lexer))) return error;
      if (lexer.token != T_NAME) return complain(EXPECTED_NAME, lexer.line, lexer.token);
      hash = lexer.hash;
      if ((error = next(&lexer)) || (error = expect(T_ASSIGN)) || (error = expression(0))) return error;
      error = in_function ? declare(locals, &local_count, hash) : declare(globals, &global_count, hash);
      if (local_count > local_limit) local_limit = local_count;
      if (error || (error = store(hash))) return error;
      return expect(T_SEMICOLON);
    case T_IF:
      if ((error = condition(&branch)) || (error = block())) return error;
      if (lexer.token == T_ELSE) {
        u32 over = code_size;
        if ((error = emit(O_JUMP, 0)) || (error = next(&lexer))) return error;
        code[branch].operand = code_size;
        error = lexer.token == T_IF ? statement() : block();
        code[over].operand = code_size;
        return error;
      }
      code[branch].operand = code_size;
      return OK;
    case T_WHILE:
      start = code_size;
      if ((error = condition(&branch)) || (error = block()) || (error = emit(O_JUMP, start))) return error;
      code[branch].operand = code_size;
      return OK;
    case T_RETURN:
      if ((error = next(&lexer)) || (error = expression(0)) || (error = emit(O_RETURN, 0))) return error;
      return expect(T_SEMICOLON);
    case T_PRINT:
      if ((error = next(&lexer))) return error;
      while (lexer.token != T_SEMICOLON) {
        if (lexer.token == T_TEXT) {
          error = emit(O_PRINT_TEXT, (i64)lexer.start << 32 | lexer.size);
          if (!error) error = next(&lexer);
        } else {
          i64 writer = lexer.token == T_MOD;
          if (!writer || !(error = next(&lexer))) error = expression(0);
          if (!error) error = emit(O_PRINT, writer);
        }
        if (!error && lexer.token == T_COMMA) error = next(&lexer);
        if (error) return error;
      }
      if ((error = emit(O_PRINT_TEXT, -1))) return error;
      return next(&lexer);
    case T_INDEX:
      if ((error = next(&lexer)) || (error = expression(0)) || (error = expect(T_INDEX_END)) || (error = expect(T_ASSIGN)) ||
          (error = expression(0)) || (error = emit(O_SET, 0)))
        return error;
      return expect(T_SEMICOLON);
    case T_NAME:
      hash = lexer.hash;
      if ((error = next(&lexer))) return error;
      if (lexer.token == T_OPEN) {
        if ((error = call(hash)) || (error = emit(O_DROP, 0))) return error;
        return expect(T_SEMICOLON);
      }
      if ((error = expect(T_ASSIGN)) || (error = expression(0)) || (error = store(hash))) return error;
      return expect(T_SEMICOLON);
    default:
      return complain(EXPECTED_EXPRESSION, lexer.line, lexer.token);
  }
}

static enum error block(void) {
  enum error error = expect(T_BEGIN);
  u32 outer = local_count;
  while (!error && lexer.token != T_STOP) error = statement();
  joined = code_size;
  local_count = outer;
  return error ? error : next(&lexer);
}

static enum error declare_function(void) {
  enum error error = next(&lexer);
  if (error) return error;
  if (lexer.token != T_NAME) return complain(EXPECTED_NAME, lexer.line, lexer.token);
  if (function_count == MAX_FUNCTIONS) return complain(TOO_MANY_NAMES, lexer.line, MAX_FUNCTIONS);
  struct function *function = &functions[function_count++];
  u32 over = code_size;
  function->hash = lexer.hash;
  local_count = local_limit = 0;
  if ((error = emit(O_JUMP, 0)) || (error = next(&lexer)) || (error = expect(T_OPEN))) return error;
  while (lexer.token != T_CLOSE) {
    if (lexer.token != T_NAME) return complain(EXPECTED_NAME, lexer.line, lexer.token);
    if ((error = declare(locals, &local_count, lexer.hash)) || (error = next(&lexer))) return error;
    if (lexer.token == T_COMMA && (error = next(&lexer))) return error;
  }
  if ((error = next(&lexer))) return error;
  function->parameters = local_limit = local_count;
  function->entry = code_size;
  in_function = 1;
  error = block();
  in_function = 0;
  if (error || (error = emit(O_PUSH, 0)) || (error = emit(O_RETURN, 0))) return error;
  function->locals = local_limit;
  code[over].operand = code_size;
  return OK;
}

static enum error compile(const char *text) {
  lexer.text = text;
  lexer.line = 1;
  enum error error = next(&lexer);
  while (!error && lexer.token != T_END) error = lexer.token == T_FN ? declare_function() : statement();
  return error ? error : emit(O_HALT, 0);
}

/* ---- the machine ---- */

enum { STACK = 65536, DEPTH = 4096, MEMORY = 1 << 18 };

struct frame {
  u32 back, base;
};

static i64 stack[STACK], memory[MEMORY], values[MAX_NAMES];
static struct frame frames[DEPTH];
static u64 executed;

static enum error run(const char *text) {
  u32 pc = 0, top = 0, base = 0, depth = 0;
  for (;;) {
    if (pc >= code_size) return complain(BAD_CODE, 0, pc);
    const struct instruction *at = &code[pc++];
    i64 right;
    executed++;
    if (top + 2 > STACK) return complain(STACK_OVERFLOW, at->line, pc);
    switch (at->op) {
      case O_HALT: return OK;
      case O_PUSH: stack[top++] = at->operand; break;
      case O_LOAD: stack[top++] = stack[base + (u32)at->operand]; break;
      case O_STORE: stack[base + (u32)at->operand] = stack[--top]; break;
      case O_LOAD_GLOBAL: stack[top++] = values[at->operand]; break;
      case O_STORE_GLOBAL: values[at->operand] = stack[--top]; break;
      case O_GET:
        if ((u64)stack[top - 1] >= MEMORY) return complain(OUT_OF_RANGE, at->line, stack[top - 1]);
        stack[top - 1] = memory[stack[top - 1]];
        break;
      case O_SET:
        if (top < 2) return complain(STACK_UNDERFLOW, at->line, pc);
        if ((u64)stack[top - 2] >= MEMORY) return complain(OUT_OF_RANGE, at->line, stack[top - 2]);
        memory[stack[top - 2]] = stack[top - 1];
        top -= 2;
        break;
      case O_ADD_NUMBER: stack[top - 1] = (i64)((u64)stack[top - 1] + (u64)at->operand); break;
      case O_NOT: stack[top - 1] = !stack[top - 1]; break;
      case O_NEGATE: stack[top - 1] = (i64)(0 - (u64)stack[top - 1]); break;
      case O_JUMP: pc = (u32)at->operand; break;
      case O_JUMP_IF:
        if (stack[--top]) pc = (u32)at->operand;
        break;
      case O_JUMP_IF_NOT:
        if (!stack[--top]) pc = (u32)at->operand;
        break;
      case O_LESS_JUMP:
        if (top < 2) return complain(STACK_UNDERFLOW, at->line, pc);
        top -= 2;
        if (!(stack[top] < stack[top + 1])) pc = (u32)at->operand;
        break;
      case O_CALL: {
        const struct function *function = &functions[at->operand];
        if (depth == DEPTH) return complain(CALLS_TOO_DEEP, at->line, depth);
        if (top < function->parameters) return complain(STACK_UNDERFLOW, at->line, pc);
        if (top + function->locals + 2 > STACK) return complain(STACK_OVERFLOW, at->line, pc);
        frames[depth].back = pc;
        frames[depth++].base = base;
        base = top - function->parameters;
        for (u32 i = function->parameters; i < function->locals; i++) stack[top++] = 0;
        pc = function->entry;
        break;
      }
      case O_RETURN:
        if (!depth) return complain(STACK_UNDERFLOW, at->line, pc);
        right = stack[top - 1];
        top = base;
        stack[top++] = right;
        pc = frames[--depth].back;
        base = frames[depth].base;
        break;
      case O_DROP: top--; break;
      case O_PRINT: writers[at->operand](stack[--top]); break;
      case O_PRINT_TEXT:
        if (at->operand < 0) {
          put_char('\n');
        } else {
          for (u32 i = 0; i < (u32)at->operand; i++) put_char(text[(u32)(at->operand >> 32) + i]);
        }
        break;
      default:
        if (top < 2) return complain(STACK_UNDERFLOW, at->line, pc);
        right = stack[--top];
        i64 left = stack[top - 1], result;
        switch (at->op) {
          case O_ADD: result = (i64)((u64)left + (u64)right); break;
          case O_SUB: result = (i64)((u64)left - (u64)right); break;
          case O_MUL: result = (i64)((u64)left * (u64)right); break;
          case O_DIV:
            if (!right) return complain(DIVISION_BY_ZERO, at->line, pc);
            result = right == -1 ? (i64)(0 - (u64)left) : left / right;
            break;
          case O_MOD:
            if (!right) return complain(DIVISION_BY_ZERO, at->line, pc);
            result = right == -1 ? 0 : left % right;
            break;
          case O_AND: result = left & right; break;
          case O_OR: result = left | right; break;
          case O_XOR: result = left ^ right; break;
          case O_SHL:
            if ((u64)right > 63) return complain(BAD_SHIFT, at->line, right);
            result = (i64)((u64)left << right);
            break;
          case O_SHR:
            if ((u64)right > 63) return complain(BAD_SHIFT, at->line, right);
            result = (i64)((u64)left >> right);
            break;
          case O_EQ: result = left == right; break;
          case O_NE: result = left != right; break;
          case O_LT: result = left < right; break;
          case O_LE: result = left <= right; break;
          case O_GT: result = left > right; break;
          case O_GE: result = left >= right; break;
          default: return complain(BAD_CODE, at->line, at->op);
        }
        stack[top - 1] = result;
    }
  }
}

__attribute__((noreturn, used)) static void program(void) {
  /* The compiler runs many times, so that it has a share in the profile; the code of the last run is executed. */
  enum error error = OK;
  for (u32 round = 0; round < 300 && !error; round++) {
    code_size = joined = function_count = local_count = local_limit = global_count = 0;
    lexer.at = 0;
    error = compile(script);
  }
  if (!error) error = run(script);
  put_text("executed ");
  put_number((i64)executed);
  put_text(" instructions, ");
  put_number(error_count);
  put_text(" errors\n");
  flush();
  for (;;) system_call(231, error != OK, 0, 0);
}

__asm__(
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "  .cfi_startproc\n"
    "  .cfi_undefined rip\n"
    "  xor %ebp, %ebp\n"
    "  and $-16, %rsp\n"
    "  call program\n"
    "  ud2\n"
    "  .cfi_endproc\n"
    ".size _start, . - _start\n");

/* gcc may call this for large copies even without a C library. */
void *memset(void *to, int byte, unsigned long size) {
  u8 *at = to;
  while (size--) {
    *at++ = (u8)byte;
    __asm__ volatile("" ::: "memory");
  }
  return to;
}
