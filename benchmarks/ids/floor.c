/* The floor: each format in C with the least work that gives a value of its shape.
 *
 * One clock reading where the format holds a time, words of a buffered generator where it holds
 * randomness, digits from tables, one new object. No lock, no order inside a tick, nothing for forks: what
 * remains is what no implementation can save. The two formats that are unique by a counter count atomically,
 * as their first implementations do (rs/xid by an atomic addition, Twitter's snowflake under a lock).
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ChaCha8 in counter mode, eight blocks at a time, each word used once. */
typedef uint32_t lanes __attribute__((vector_size(32)));
#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define QUARTER(a, b, c, d)                                                                        \
    a += b, d ^= a, d = ROTATE(d, 16), c += d, b ^= c, b = ROTATE(b, 12), a += b, d ^= a,          \
        d = ROTATE(d, 8), c += d, b ^= c, b = ROTATE(b, 7)

static uint32_t key[8];
static uint32_t block;
static uint64_t words[64];
static int next_word = 64;

static __attribute__((noinline)) void refill(void)
{
    static const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    lanes x[16], zero = {0}, count = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int i = 0; i < 4; i++)
        x[i] = zero + constants[i];
    for (int i = 0; i < 8; i++)
        x[4 + i] = zero + key[i];
    x[12] = count + block;
    x[13] = x[14] = x[15] = zero;
    lanes start[16];
    memcpy(start, x, sizeof start);
    for (int round = 0; round < 4; round++) {
        QUARTER(x[0], x[4], x[8], x[12]);
        QUARTER(x[1], x[5], x[9], x[13]);
        QUARTER(x[2], x[6], x[10], x[14]);
        QUARTER(x[3], x[7], x[11], x[15]);
        QUARTER(x[0], x[5], x[10], x[15]);
        QUARTER(x[1], x[6], x[11], x[12]);
        QUARTER(x[2], x[7], x[8], x[13]);
        QUARTER(x[3], x[4], x[9], x[14]);
    }
    for (int i = 0; i < 16; i++)
        x[i] += start[i];
    memcpy(words, x, sizeof words);
    block += 8;
    next_word = 0;
}

static inline uint64_t word(void)
{
    if (next_word == 64)
        refill();
    return words[next_word++];
}

static inline uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline uint64_t clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec;
}

static inline PyObject *text(const char *from, Py_ssize_t length)
{
    PyObject *made = PyUnicode_New(length, 127);
    if (made != NULL)
        memcpy(PyUnicode_1BYTE_DATA(made), from, (size_t)length);
    return made;
}

static const char HEX[] = "0123456789abcdef";
static const char CROCKFORD[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
static const char CROCKFORD_LOWER[] = "0123456789abcdefghjkmnpqrstvwxyz";
static const char HEX32[] = "0123456789abcdefghijklmnopqrstuv";
static const char BASE62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char URL[] = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict";
static char hex_pairs[256][2];
static char decimal_pairs[100][2];

static PyObject *uuid_text(uint64_t high, uint64_t low)
{
    char out[36];
    unsigned char bytes[16];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(high >> (56 - 8 * i));
        bytes[8 + i] = (unsigned char)(low >> (56 - 8 * i));
    }
    static const unsigned char at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
    for (int i = 0; i < 16; i++)
        memcpy(out + at[i], hex_pairs[bytes[i]], 2);
    out[8] = out[13] = out[18] = out[23] = '-';
    return text(out, 36);
}

static PyObject *uuid4(PyObject *module, PyObject *none)
{
    uint64_t high = word(), low = word();
    return uuid_text((high & ~0xf000u) | 0x4000u, low >> 2 | 1ull << 63);
}

static PyObject *uuid7(PyObject *module, PyObject *none)
{
    uint64_t high = clock_ms() << 16 | 0x7000u | (word() >> 52), low = word();
    return uuid_text(high, low >> 2 | 1ull << 63);
}

static char crockford[1024][2], crockford_lower[1024][2], hex32[1024][2];

static inline void base32(char *out, unsigned __int128 bits, char pairs[1024][2], int digits)
{
    for (int i = 0; i < digits; i += 2)
        memcpy(out + i, pairs[(unsigned)(bits >> (5 * (digits - 2 - i))) & 1023], 2);
}

static inline void ulid_digits(char *out, uint64_t ms)
{
    unsigned __int128 bits = (unsigned __int128)(ms << 16 | word() >> 48) << 64 | word();
    base32(out, bits, crockford, 26);
}

static PyObject *ulid(PyObject *module, PyObject *none)
{
    char out[26];
    ulid_digits(out, clock_ms());
    return text(out, 26);
}

static PyObject *ulid_many(PyObject *module, PyObject *argument)
{
    Py_ssize_t n = PyLong_AsSsize_t(argument);
    if (n < 0)
        return NULL;
    PyObject *list = PyList_New(n);
    if (list == NULL)
        return NULL;
    uint64_t ms = clock_ms();
    for (Py_ssize_t i = 0; i < n; i++) {
        char out[26];
        ulid_digits(out, ms);
        PyObject *made = text(out, 26);
        if (made == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, made);
    }
    return list;
}

static PyObject *typeid(PyObject *module, PyObject *none)
{
    char out[26];
    unsigned __int128 high = clock_ms() << 16 | 0x7000u | (word() >> 52);
    base32(out, high << 64 | (word() >> 2 | 1ull << 63), crockford_lower, 26);
    return text(out, 26);
}

static PyObject *xid(PyObject *module, PyObject *none)
{
    static uint32_t counter;
    char out[20];
    uint32_t count = __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED) & 0xffffff;
    unsigned __int128 bits = (unsigned __int128)clock_s() << 64 | 0x1234567890u << 24 | count;
    base32(out, bits << 4, hex32, 20);
    return text(out, 20);
}

static PyObject *ksuid(PyObject *module, PyObject *none)
{
    /* 160 bits by 62^5, then five digits each. */
    uint64_t a = word(), b = word();
    uint32_t words[5] = {(uint32_t)(clock_s() - 1400000000), (uint32_t)(a >> 32), (uint32_t)a,
                         (uint32_t)(b >> 32), (uint32_t)b};
    char out[30];
    int first = 0;
    for (int part = 5; part >= 0; part--) {
        uint64_t rest = 0;
        for (int i = first; i < 5; i++) {
            uint64_t value = rest << 32 | words[i];
            words[i] = (uint32_t)(value / 916132832);
            rest = value % 916132832;
        }
        while (first < 5 && words[first] == 0)
            first++;
        for (int i = 4; i >= 0; i--) {
            out[5 * part + i] = BASE62[rest % 62];
            rest /= 62;
        }
    }
    return text(out + 3, 27);
}

static PyObject *nanoid(PyObject *module, PyObject *none)
{
    char out[21];
    uint64_t bits = 0;
    for (int i = 0; i < 21; i++) {
        if (i % 10 == 0)
            bits = word();
        out[i] = URL[bits & 63];
        bits >>= 6;
    }
    return text(out, 21);
}

static PyObject *cuid2(PyObject *module, PyObject *none)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char out[24];
    for (int i = 0; i < 4; i++) {
        uint64_t rest = word();
        for (int j = 0; j < 6; j++) {
            unsigned __int128 scaled = (unsigned __int128)rest * (i + j ? 36 : 26);
            out[6 * i + j] = digits[(size_t)(scaled >> 64) + (i + j ? 0 : 10)];
            rest = (uint64_t)scaled;
        }
    }
    return text(out, 24);
}

static PyObject *snowflake(PyObject *module, PyObject *none)
{
    /* A tick holds 4,096: more of them take the next one's, or the format would repeat itself. */
    static uint64_t newest;
    uint64_t tick = (clock_ms() - 1288834974657u) << 12, last = __atomic_load_n(&newest, __ATOMIC_RELAXED), next;
    do
        next = tick > last ? tick : last + 1;
    while (!__atomic_compare_exchange_n(&newest, &last, next, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return PyLong_FromUnsignedLongLong(next >> 12 << 22 | 5 << 12 | (next & 4095));
}

static PyObject *epoch(PyObject *module, PyObject *none)
{
    return PyLong_FromUnsignedLongLong(clock_s());
}

static PyObject *epoch_ms(PyObject *module, PyObject *none)
{
    return PyLong_FromUnsignedLongLong(clock_ms());
}

/* Days to a date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static inline void iso(char *out, uint64_t seconds)
{
    uint32_t day = (uint32_t)(seconds / 86400) + 719468, of_day = (uint32_t)(seconds % 86400);
    uint32_t era = day / 146097, of_era = day % 146097;
    uint32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t shifted = (5 * of_year + 2) / 153, date = of_year - (153 * shifted + 2) / 5 + 1;
    uint32_t month = shifted < 10 ? shifted + 3 : shifted - 9;
    uint32_t year = year_of_era + era * 400 + (month <= 2);
    memcpy(out, decimal_pairs[year / 100], 2);
    memcpy(out + 2, decimal_pairs[year % 100], 2);
    memcpy(out + 5, decimal_pairs[month], 2);
    memcpy(out + 8, decimal_pairs[date], 2);
    memcpy(out + 11, decimal_pairs[of_day / 3600], 2);
    memcpy(out + 14, decimal_pairs[of_day / 60 % 60], 2);
    memcpy(out + 17, decimal_pairs[of_day % 60], 2);
    out[4] = out[7] = '-';
    out[10] = 'T';
    out[13] = out[16] = ':';
}

static PyObject *iso8601(PyObject *module, PyObject *none)
{
    char out[20];
    iso(out, clock_s());
    out[19] = 'Z';
    return text(out, 20);
}

static PyObject *iso8601_ms(PyObject *module, PyObject *none)
{
    char out[24];
    uint64_t ms = clock_ms();
    uint32_t millis = (uint32_t)(ms % 1000);
    iso(out, ms / 1000);
    out[19] = '.';
    out[20] = (char)('0' + millis / 100);
    memcpy(out + 21, decimal_pairs[millis % 100], 2);
    out[23] = 'Z';
    return text(out, 24);
}

static PyMethodDef methods[] = {
    {"uuid4", uuid4, METH_NOARGS, NULL},       {"uuid7", uuid7, METH_NOARGS, NULL},
    {"ulid", ulid, METH_NOARGS, NULL},         {"ksuid", ksuid, METH_NOARGS, NULL},
    {"nanoid", nanoid, METH_NOARGS, NULL},     {"snowflake", snowflake, METH_NOARGS, NULL},
    {"typeid", typeid, METH_NOARGS, NULL},     {"xid", xid, METH_NOARGS, NULL},
    {"cuid2", cuid2, METH_NOARGS, NULL},       {"epoch", epoch, METH_NOARGS, NULL},
    {"epoch_ms", epoch_ms, METH_NOARGS, NULL}, {"iso8601", iso8601, METH_NOARGS, NULL},
    {"iso8601_ms", iso8601_ms, METH_NOARGS, NULL}, {"ulid_many", ulid_many, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "floor", NULL, -1, methods};

PyMODINIT_FUNC PyInit_floor(void)
{
    for (int i = 0; i < 256; i++) {
        hex_pairs[i][0] = HEX[i >> 4];
        hex_pairs[i][1] = HEX[i & 15];
    }
    for (int i = 0; i < 100; i++) {
        decimal_pairs[i][0] = (char)('0' + i / 10);
        decimal_pairs[i][1] = (char)('0' + i % 10);
    }
    for (int i = 0; i < 1024; i++) {
        crockford[i][0] = CROCKFORD[i >> 5], crockford[i][1] = CROCKFORD[i & 31];
        crockford_lower[i][0] = CROCKFORD_LOWER[i >> 5], crockford_lower[i][1] = CROCKFORD_LOWER[i & 31];
        hex32[i][0] = HEX32[i >> 5], hex32[i][1] = HEX32[i & 31];
    }
    if (getentropy(key, sizeof key) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyModule_Create(&module);
}
