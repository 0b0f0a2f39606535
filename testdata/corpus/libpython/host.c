/* A program that embeds Python through the shared library: calls in both directions, objects and errors across the border.
 *
 *   host train|eval
 *
 * Prints what the embedded code computes; status 0 when every call succeeded. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Called from Python: sums a list, refuses anything else with a TypeError. */
static PyObject *host_sum(PyObject *self, PyObject *args) {
  PyObject *list;
  (void)self;
  if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &list)) return NULL;
  long long total = 0;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
    long long value = PyLong_AsLongLong(PyList_GET_ITEM(list, i));
    if (value == -1 && PyErr_Occurred()) return NULL;
    total += value;
  }
  return PyLong_FromLongLong(total);
}

/* Called from Python: calls back `f(i)` for i below n. */
static PyObject *host_repeat(PyObject *self, PyObject *args) {
  PyObject *callable;
  int n;
  (void)self;
  if (!PyArg_ParseTuple(args, "Oi", &callable, &n)) return NULL;
  PyObject *results = PyList_New(0);
  for (int i = 0; results != NULL && i < n; i++) {
    PyObject *value = PyObject_CallFunction(callable, "i", i);
    if (value == NULL || PyList_Append(results, value) < 0) {
      Py_XDECREF(value);
      Py_CLEAR(results);
      break;
    }
    Py_DECREF(value);
  }
  return results;
}

static PyMethodDef methods[] = {
    {"sum", host_sum, METH_VARARGS, "Sum of a list of integers."},
    {"repeat", host_repeat, METH_VARARGS, "List of f(0) to f(n - 1)."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "host", .m_size = -1, .m_methods = methods};
static PyObject *make_module(void) { return PyModule_Create(&module); }

static const char train_code[] =
    "import host, json, re\n"
    "print('sum', host.sum([i * i % 91 for i in range(40000)]))\n"
    "print('repeat', sum(len(str(x)) for x in host.repeat(lambda i: i ** 2, 5000)))\n"
    "print('json', len(json.dumps(json.loads(json.dumps([{'k%d' % i: [i, i / 2, None]} for i in range(2000)])))))\n"
    "print('re', len(re.findall(r'(\\d+)-(\\w)', ' '.join('%d-a' % i for i in range(3000)))))\n";

static const char eval_code[] =
    "import ast, base64, collections, datetime, decimal, fractions, hashlib, host, io, itertools, pickle, textwrap, zlib\n"
    "try:\n"
    "    host.sum('text')\n"
    "except TypeError as problem:\n"
    "    print('refused', problem)\n"
    "try:\n"
    "    host.repeat(lambda i: 1 // (3 - i), 9)\n"
    "except ZeroDivisionError as problem:\n"
    "    print('across', problem)\n"
    "def nested(n):\n"
    "    return host.repeat(nested, n - 1) if n > 0 else host.sum([1, 2, 3])\n"
    "print('nested', len(str(nested(6))))\n"
    "decimal.getcontext().prec = 60\n"
    "print('decimal', sum((decimal.Decimal(1) / decimal.Decimal(n) for n in range(1, 3000)), decimal.Decimal(0)))\n"
    "print('fraction', str(sum((fractions.Fraction(1, n) for n in range(1, 200)), fractions.Fraction(0)))[:40])\n"
    "source = textwrap.dedent('''\n    class A:\n        def f(self, *a, **k):\n            match a:\n                case [x, *_] if x > 2: return x\n"
    "                case _: return k\n    ''')\n"
    "tree = ast.parse(source)\n"
    "print('ast', hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], ast.unparse(tree) == ast.unparse(ast.parse(ast.unparse(tree))))\n"
    "space = {}\n"
    "exec(compile(tree, 'embedded', 'exec'), space)\n"
    "print('match', space['A']().f(5, 6), space['A']().f(1, key=2))\n"
    "data = pickle.loads(pickle.dumps({i: (str(i), [i] * 3) for i in range(5000)}))\n"
    "packed = zlib.compress(base64.b64encode(repr(data).encode()), 9)\n"
    "print('pack', hashlib.sha256(zlib.decompress(packed)).hexdigest()[:16])\n"
    "print('days', (datetime.date(2024, 2, 29) - datetime.date(1970, 1, 1)).days)\n"
    "counter = collections.Counter(a ^ b for a, b in itertools.product(range(300), repeat=2))\n"
    "print('counter', counter.most_common(2), len(counter))\n"
    "stream = io.StringIO()\n"
    "for i in range(20000): print(i, hex(i), f'{i / 7:.3f}', sep=';', file=stream)\n"
    "print('stream', hashlib.sha256(stream.getvalue().encode()).hexdigest()[:16])\n"
    "def depth(n): return depth(n + 1)\n"
    "try:\n"
    "    depth(0)\n"
    "except RecursionError as problem:\n"
    "    print('recursion', problem)\n";

int main(int argc, char **argv) {
  const char *code = argc > 1 && strcmp(argv[1], "train") == 0 ? train_code : eval_code;
  PyImport_AppendInittab("host", make_module);
  PyConfig config;
  PyConfig_InitIsolatedConfig(&config);
  PyStatus status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status)) {
    fprintf(stderr, "host: %s\n", status.err_msg ? status.err_msg : "cannot start");
    return 2;
  }
  int failed = PyRun_SimpleString(code) != 0;
  if (Py_FinalizeEx() < 0) failed = 1;
  printf("%s\n", failed ? "FAILED" : "ok");
  return failed;
}
