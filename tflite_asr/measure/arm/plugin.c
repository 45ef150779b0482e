/* Counts the instructions of an arm64 program between marks: a QEMU TCG plugin (plugin API version 1, QEMU 7.2).
 *
 * QEMU translates a program block by block. Each block is classified once, when it is translated, and carries a
 * counter of its runs, which the translated code adds to by itself; so counting costs a few per cent.
 *
 * A program marks a place by getpriority(0x5afe, label), which does nothing else (EINVAL). At a mark the file that the
 * argument out=FILE names gets a line "mark LABEL", then for each block that ran since the mark before it a line
 *     ADDRESS RUNS INSTRUCTIONS DOT VECTOR MEMORY
 * the first in hexadecimal, the last four of one run. A block that is translated again has a line of its own.
 *
 * No header of QEMU's is needed: what is used of its interface is declared below.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translate_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*syscall_callback)(qemu_plugin_id_t, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t,
                                 uint64_t, uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translate_callback);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_callback);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter, uint64_t step);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
enum { ADD_U64 = 0, GETPRIORITY = 141, MARK = 0x5afe };

SHOWN int qemu_plugin_version = 1;
SHOWN int qemu_plugin_install(qemu_plugin_id_t, const void *info, int argc, char **argv);

typedef struct Block {
  uint64_t runs, runs_at_mark, address;
  uint32_t instructions, dot, vector, memory;
  struct Block *next;
} Block;

static Block *blocks;
static FILE *out;

/* The 8-bit dot products and matrix products (Arm ARM, C4.1.95 "Advanced SIMD three same (extra)" and "vector x indexed
 * element"). Q chooses 8 or 16 bytes, U signed or unsigned; the masks leave them open where both exist. */
static int is_dot(uint32_t word) {
  return (word & 0x9FE0FC00) == 0x0E809400     /* SDOT, UDOT */
         || (word & 0x9FC0F400) == 0x0F80E000  /* SDOT, UDOT by element */
         || (word & 0xBFE0FC00) == 0x0E809C00  /* USDOT */
         || (word & 0xBFC0F400) == 0x0F80F000  /* USDOT by element */
         || (word & 0xBFC0F400) == 0x0F00F000  /* SUDOT by element */
         || (word & 0xDFE0FC00) == 0x4E80A400  /* SMMLA, UMMLA */
         || (word & 0xFFE0FC00) == 0x4E80AC00; /* USMMLA */
}

static void classify(uint32_t word, Block *block) {
  uint32_t group = (word >> 25) & 15; /* Arm ARM, C4.1, op0 */
  block->instructions++;
  if ((group & 5) == 4)
    block->memory++; /* loads and stores, of general and of vector registers */
  else if ((group & 7) == 7) {
    if (is_dot(word))
      block->dot++;
    else
      block->vector++; /* Advanced SIMD and scalar floating point */
  }
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *translated) {
  Block *block = calloc(1, sizeof *block);
  size_t count = qemu_plugin_tb_n_insns(translated);
  (void)id;
  if (!block) {
    fputs("plugin: no memory is left\n", stderr);
    exit(1);
  }
  block->address = qemu_plugin_tb_vaddr(translated);
  for (size_t i = 0; i < count; i++) {
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(translated, i)), sizeof word);
    classify(word, block);
  }
  block->next = blocks;
  blocks = block;
  qemu_plugin_register_vcpu_tb_exec_inline(translated, ADD_U64, &block->runs, 1);
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t which, uint64_t label, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != GETPRIORITY || which != MARK) return;
  fprintf(out, "mark %" PRIu64 "\n", label);
  for (Block *block = blocks; block; block = block->next) {
    uint64_t runs = block->runs - block->runs_at_mark;
    if (runs)
      fprintf(out, "%" PRIx64 " %" PRIu64 " %u %u %u %u\n", block->address, runs, block->instructions, block->dot,
              block->vector, block->memory);
    block->runs_at_mark = block->runs;
  }
  fflush(out);
}

SHOWN int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
  if (!out) {
    fputs("plugin: give out=FILE, a file that can be written\n", stderr);
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  return 0;
}
