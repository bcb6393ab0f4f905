/* SPDX-License-Identifier: MIT */
/*
 * One CPU as data: register sets, where pc and sp are. The only interface of arch/.
 *
 * Data (regs.c) of every CPU is in every build, because `stasis show` opens any image; so is what
 * looks at register sets of an image without asking the CPU (fit.c). Code (inject.c) only for the
 * host. What a CPU lacks is a NULL hook, tested in the one place that calls it.
 *
 * Porting checklist: a folder with regs.c (register sets and offsets, no ptrace header, builds on
 * every host), fit.c (which sets of an image may be written, likewise) and inject.c (host only);
 * one row in arch.c; a march number for CRIU's core entry; the batch loop proved by
 * tests/unit/target and the kill test.
 */
#ifndef ARCH_ARCH_H
#define ARCH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Newer than the C library of Debian 12. Behind each the version of Linux that brought it and where
 * its layout is documented: files of Linux's Documentation/arch/, or the register that the set is,
 * which the Arm Architecture Reference Manual (DDI 0487) describes.
 */
#ifndef NT_ARM_SSVE
#define NT_ARM_SSVE 0x40b /* 5.19; arm64/sme.rst: as NT_ARM_SVE, in streaming mode */
#endif
#ifndef NT_ARM_ZA
#define NT_ARM_ZA 0x40c /* 5.19; arm64/sme.rst, struct user_za_header of <asm/ptrace.h> */
#endif
#ifndef NT_ARM_ZT
#define NT_ARM_ZT 0x40d /* 6.3; arm64/sme.rst: the 64 bytes of ZT0 */
#endif
#ifndef NT_ARM_FPMR
#define NT_ARM_FPMR 0x40e /* 6.9; the register FPMR */
#endif
#ifndef NT_ARM_POE
#define NT_ARM_POE 0x40f /* 6.12; the register POR_EL0 */
#endif
#ifndef NT_ARM_GCS
#define NT_ARM_GCS 0x410 /* 6.13; arm64/gcs.rst, struct user_gcs of <asm/ptrace.h> */
#endif
#ifndef NT_386_IOPERM
#define NT_386_IOPERM 0x201 /* 2.6.26; a bit for each port, as ioperm(2) counts them */
#endif
#ifndef NT_X86_SHSTK
#define NT_X86_SHSTK 0x204 /* 6.6; x86/shstk.rst, and SSP in Intel SDM vol. 1, CET */
#endif

enum {
	/* bytes of the largest NT_PRSTATUS register set, ppc64's, and of a call_note set behind it
	 */
	ARCH_PRSTATUS_MAX = 400,
	ARCH_CALL_LEN = 4,    /* bytes of a call_note set */
	ARCH_FRAME_NOTES = 5, /* most register sets that a signal frame is made of */
	ARCH_LOST_NOTES = 4,  /* most sets that calls leave nothing of */
	/*
	 * More than any register set has, the longest known is NT_ARM_ZA with 65,552. The kernel
	 * refuses a length that is no multiple of a set's elements, known or not: this one is, for
	 * elements of up to 4096 bytes that are a power of two, or that times 3, 7 or 21.
	 */
	ARCH_REGSET_MAX = 21 * 4096,
	ARCH_NO_OFF = 0x7fffffff,
	ARCH_CONTROL_MAX = 12800, /* bytes of the largest control block: a signal frame, and more */
	ARCH_INS_WORDS = 11,	  /* of arch_desc.ins */
	ARCH_LAZY_LEN = 576,	  /* bytes that arch_inject.lazy_area() makes */
};

/* A register set as the kernel's ptrace GETREGSET knows it. */
struct arch_regset {
	uint32_t note;	   /* NT_* type, also the ELF note type */
	const char *owner; /* ELF note owner: "CORE" or "LINUX" */
	const char *name;  /* "NT_PRSTATUS" */
	uint32_t size;	   /* bytes; 0: varies with the CPU, largest in max_size */
	uint32_t max_size;
	const char *since; /* kernel version that brought it and where its layout is documented */
};

/* Bytes to look for in executable memory. */
struct arch_gadget {
	const uint8_t *bytes;
	size_t len;
};

/* What libunwind has to be told of a CPU beside its general registers. */
struct arch_unwind {
	/* What it calls registers that `regs` calls otherwise; ends with NULL. */
	const struct arch_alias {
		const char *theirs, *ours;
	} * names;
	/*
	 * Registers of NT_FPREGSET, of eight bytes, in which functions keep general ones:
	 * libunwind's number of the first, how many, the first one's offset. nfp 0: in none.
	 */
	uint16_t fp_first, nfp, fp_off;
	/*
	 * Where what the kernel pushed for a signal handler has the registers, as NT_PRSTATUS has
	 * them up to regs_len, and fp_len bytes as of NT_FPREGSET behind these: above the stack
	 * pointer at `code`, to which the handler returns. Ends with code.len 0. NULL: libunwind
	 * knows.
	 */
	const struct arch_sigframe {
		struct arch_gadget code;
		uint16_t off, regs_len, fp_len;
	} * frames;
};

/*
 * Allocation tags of memory: four bits for each granule, which the CPU compares with bits of the
 * pointer. As data, for every host reads them in an image.
 */
struct arch_tags {
	const char *name; /* "MTE", with the kernel's document */
	uint32_t granule; /* bytes of memory that have one tag */
	uint32_t prot;	  /* for mmap() and mprotect(): memory that has them */
	/*
	 * ptrace requests, of an address and an iovec with one byte for each tag. They transfer as
	 * far as they get, and leave how far that is in the iovec.
	 */
	uint32_t peek, poke;
	uint64_t hwcap_type, hwcap; /* of the auxiliary vector: this CPU and kernel have them */
	/* The set that tells whether a thread looks at tags: when it has one of these bits. */
	uint32_t ctrl_note;
	uint64_t ctrl_on;
	uint32_t core_segment; /* p_type in core files: two tags a byte, the lower one first */
};

struct arch_desc {
	const char *name;		   /* "x86_64" */
	uint16_t elf_machine;		   /* EM_* */
	uint8_t elf_class;		   /* ELFCLASS64 */
	uint8_t elf_data;		   /* ELFDATA2LSB or ELFDATA2MSB */
	uint32_t criu_march;		   /* core_entry.mtype */
	const struct arch_regset *regsets; /* ends with note 0; the first is NT_PRSTATUS */
	/*
	 * Where newer kernels have sets that the list lacks; they are kept as they are. At most 64
	 * notes.
	 */
	uint32_t first_note, last_note;
	/* byte offsets in the NT_PRSTATUS register set; sysno_off ARCH_NO_OFF: not in it */
	uint32_t pc_off, sp_off, fp_off, ret_off, sysno_off;
	/* name, byte offset and width of each general register, for show; ends with NULL */
	const struct arch_reg {
		const char *name;
		uint16_t off;
		uint8_t size;
	} * regs;
	const struct arch_unwind *unwind; /* NULL: nothing to tell */
	/*
	 * The kernel decides before the stop whether an interrupted call is made again, and has
	 * stepped back to it then. What it keeps of the call only shows when the thread goes on;
	 * see src/target/recall.h. Of the four functions below it has restart_undo() at most.
	 */
	bool steps_back;
	/*
	 * A thread that was stopped inside a restartable system call: changes @prstatus to what it
	 * must hold so that the call is made again (ERESTARTSYS, NOINTR, NOHAND) or returns EINTR
	 * (ERESTART_RESTARTBLOCK) once it is put back without the kernel's help. True if changed.
	 * NULL where the kernel has done it before the stop (aarch64).
	 */
	bool (*restart_fixup)(void *prstatus);
	/*
	 * Bytes of the system-call instruction that restart_fixup steps back over; 0 where it does
	 * not. `stasis core` steps forward again, to show what a debugger at the process shows.
	 */
	uint8_t syscall_len;
	/*
	 * The code of the interrupted system call in @prstatus, -512 to -516, when the kernel would
	 * make it again after the stop; else 0. NULL as above.
	 */
	int64_t (*restart_code)(const void *prstatus);
	/*
	 * The opposite of restart_fixup(): @prstatus as the kernel left it at the stop, @code in
	 * its result register, so that the kernel makes the call again by itself, or does not, when
	 * a signal is on its way. False, and nothing changed, when restart_fixup() did not make
	 * this of such a state. NULL as above.
	 */
	bool (*restart_undo)(void *prstatus, int64_t code);
	/* It can do so on any host, and undoes more than syscall_len, ret_off and sysno_off tell.
	 */
	bool undo_anywhere;
	/*
	 * Names of bits in AT_HWCAP (16), AT_HWCAP2 (26), AT_HWCAP3 (29) and AT_HWCAP4 (30, both
	 * since Linux 6.9) of the auxiliary vector; ends with NULL, may be NULL. hwcap_other: those
	 * of AT_HWCAP that no program depends on.
	 */
	const struct arch_cap {
		uint32_t type;
		uint64_t bit;
		const char *name;
	} * caps;
	uint64_t hwcap_other;
	/*
	 * Instructions of which programs learn from the CPU itself, not by AT_HWCAP: bits of words,
	 * numbered as images number them (docs/IMAGES.md). @needs: of no use where one of these
	 * registers is not switched on, bits as in XCR0. Ends with NULL, may be NULL.
	 */
	const struct arch_ins {
		uint8_t word, bit;
		uint32_t needs;
		const char *name;
	} * ins;
	const struct arch_tags *tags; /* NULL: memory of this CPU has none */
};

extern const struct arch_desc arch_x86_64, arch_aarch64, arch_ppc64, arch_s390;

/* By ELF machine; NULL when unknown. */
const struct arch_desc *arch_by_machine(uint16_t elf_machine);
const struct arch_desc *arch_by_march(uint32_t criu_march);
/* The CPU this build runs on. */
const struct arch_desc *arch_host(void);
/* Tags of this machine's memory; NULL: its CPU or kernel has none. */
const struct arch_tags *arch_host_tags(void);
/* What an image says of this CPU's instructions: those that have names. False: nothing. */
bool arch_host_ins(uint32_t ret[ARCH_INS_WORDS]);

/* The caller's own thread pointer, from which C libraries count (__rseq_offset). */
static inline void *arch_self(void)
{
#ifdef __powerpc64__ /* GCC has no __builtin_thread_pointer() there before 14 */
	void *self;

	__asm__("mr %0, 13" : "=r"(self));
	return self;
#else
	return __builtin_thread_pointer();
#endif
}

/* What a call that is made again may be, by its number and arguments. */
enum arch_sleep {
	ARCH_AWAKE,
	ARCH_ENDS,	/* after a stop it is not made again: EINTR, even without a signal */
	ARCH_MAY_SLEEP, /* one of those of which the kernel keeps the end */
	ARCH_SLEEPS,	/* restart_syscall: it goes on with what the kernel has kept */
};

/* A register set as a thread has it; len 0: it or this CPU has none. */
struct arch_set {
	uint32_t note, len;
	const uint8_t *data;
};

/* One system call of a batch, as the injected loop reads it. */
struct arch_call {
	uint64_t nr;
	uint64_t args[6];
	int64_t ret; /* written by the loop: -errno on failure */
};

/*
 * A shadow stack: return addresses once more, where the program cannot write. The CPU compares them
 * at each return, the kernel what it puts there for a signal frame when rt_sigreturn takes that.
 */
struct arch_shadow {
	uint32_t note, pointer_off; /* the set with its pointer */
	/*
	 * Bytes [0, 8) of the set: on when it has one of these bits; 0: the set is there when it is
	 * on, and the thread itself switches it on, by call @nr with @enable and one bit of its
	 * features, and makes sure of it with @lock and some.
	 */
	uint64_t on;
	uint64_t nr, enable, lock;
	/*
	 * What is to lie at @pointer - 16, where the pointer is moved to, for "system call; return"
	 * to return to @back, whose rt_sigreturn takes a frame and moves the pointer back.
	 */
	void (*words)(uint64_t pointer, uint64_t back, uint64_t ret[2]);
	/* The loop ends by rt_sigreturn: it needs the second of them, and the pointer there. */
	bool loop_token;
};

/* Entries of the GDT that are a thread's own: segment registers may hold their numbers. */
struct arch_gdt {
	uint32_t first, n;
	uint32_t get, set; /* ptrace requests, of a number and a struct user_desc */
	uint32_t none;	   /* flags of one that is empty */
	/*
	 * Who sets one has memory below this address, and so has what it is for. Does a segment
	 * register of @prstatus hold such a number?
	 */
	uint64_t reach;
	bool (*named)(const void *prstatus);
};

/* State of a process that no image carries, and the call that answers @odd when it is there. */
struct arch_oddity {
	uint64_t nr, args[3];
	int64_t odd;
	const char *what;
};

enum { ARCH_ODDITIES_MAX = 4 };

/*
 * Registers that a process must have asked for, once and for all its threads, before one may use
 * them: bits as in XCR0.
 */
struct arch_permits {
	const char *name;
	uint64_t bits;
	/*
	 * Call @nr with @get and an address writes a word there, the registers that are permitted,
	 * these and all others; with @ask and the number of a bit it permits these.
	 */
	uint64_t nr, get, ask;
	/* Those of @bits that this CPU and kernel have; they are not asked again. */
	uint64_t (*here)(void);
	/* Those of @bits that hold something in @set, which may be any. */
	uint64_t (*in_use)(const struct arch_set *set);
};

/*
 * System calls in a stopped thread, on the host's CPU. Data and pure functions: the ptrace and
 * memory work is src/target's.
 *
 * What the functions call prstatus is the NT_PRSTATUS register set and, where the number of the
 * interrupted call is in a register set of its own, the ARCH_CALL_LEN bytes of that one behind it:
 *
 *	x86-64   0  user_regs_struct, orig_rax in it   216
 *	aarch64  0  user_pt_regs   272  NT_ARM_SYSTEM_CALL    276
 *	s390x    0  s390_regs      216  NT_S390_SYSTEM_CALL   220
 *
 * Both are read, changed and written together, so set_call() and skip_call() reach the number, too.
 *
 * The injected code has two ways in: `run` makes the calls of a table, `boot` makes the one call
 * that the registers hold. Both close by sending the thread one signal. A traced thread stops
 * there, with pc at `stopped`. A thread whose tracer died goes on: it sets its true signal mask,
 * loads its true registers from its control block and jumps to where it was. The control block is
 * the top of a stack, for the signal handlers that may run then.
 */
struct arch_inject {
	uint16_t elf_machine;
	const struct arch_oddity *oddities; /* NULL: none; ends with what NULL */
	uint32_t prstatus_len;
	uint32_t call_note; /* the set behind it; 0: the number is in NT_PRSTATUS */
	const struct arch_gadget *syscall_ret; /* "system call; return"; ends with len 0 */
	const struct arch_gadget *sigreturn;   /* what signal handlers return to; likewise */
	uint32_t code_align;		       /* of instructions, so of those two; 0: none */
	/* What a call is made by, and whether its sleep is kept; for CPUs where steps_back is set.
	 */
	struct arch_gadget syscall_insn;
	enum arch_sleep (*sleep)(const void *prstatus);

	/*
	 * @prstatus made to start call @nr at @pc with stack @sp, with no restart of an old call.
	 * @back: where the code at @pc returns to, for CPUs that have it in a register.
	 */
	void (*set_call)(void *prstatus, uint64_t pc, uint64_t sp, uint64_t back, uint64_t nr,
			 const uint64_t args[6]);
	/*
	 * Where "system call; return" makes calls of its own: at the entry stop of such a call,
	 * @prstatus is changed so that call @nr of set_call() is made. NULL elsewhere.
	 */
	void (*swap_call)(void *prstatus, uint64_t nr);
	/* Bytes of memory in which mmap() wants its arguments, by address; 0: in registers. */
	uint32_t mmap_args_len;
	/* The result of the call that has just been made. */
	int64_t (*call_ret)(const void *prstatus);
	/* At the entry stop of a call: it is not to be made. */
	void (*skip_call)(void *prstatus);
	/*
	 * At any other stop: no call is being made, so the result register's value is no reason to
	 * make one again. NULL: as skip_call().
	 */
	void (*no_call)(void *prstatus);
	/* The closing signal is to be @signo from here on. */
	void (*set_signo)(void *prstatus, int signo);
	/*
	 * Where the thread keeps its thread pointer: a word that holds its own address and that C
	 * libraries put at the top of the thread's stack. 0 when this CPU has no such habit.
	 */
	uint64_t (*thread_pointer)(const void *prstatus);
	/*
	 * A wait without time limit that our stop ended with EINTR (epoll_wait, sigwaitinfo, semop:
	 * signal(7)): @prstatus changed so that the kernel makes the call again unless a handler
	 * runs first. True if changed; @look only tells. NULL when unknown.
	 */
	bool (*wait_again)(void *prstatus, bool look);
	/*
	 * A sleep that the kernel would continue, when it would take away what the call was made
	 * with: @prstatus changed so that the thread continues it by itself, with all there. True
	 * if changed. NULL where the arguments stay.
	 */
	bool (*keep_args)(void *prstatus);
	/*
	 * The call that @prstatus is at, of which the kernel keeps a restart block: number and
	 * arguments as the thread gave them. @code: the call_code_len bytes before the program
	 * counter, for the number when the kernel has put that of restart_syscall there: where the
	 * code does not tell, it stays. False when there is no call.
	 */
	bool (*call_made)(const void *prstatus, const uint8_t *code, struct arch_call *ret);
	uint32_t call_code_len;
	/*
	 * @prstatus as the kernel leaves it when such a call has gone on once: with the number of
	 * restart_syscall. NULL: that is in NT_PRSTATUS, where sysno_off says.
	 */
	void (*forget_call)(void *prstatus);
	/* The result of the call that has just been made is @value. */
	void (*set_ret)(void *prstatus, int64_t value);
	/*
	 * What is to be written for the register set @set of an image, maybe from another CPU
	 * model, into a thread that has @has now: into @ret, of ARCH_REGSET_MAX bytes. Its length;
	 * 0 when there is nothing to write (read-only, or not in use), -EBADMSG when it holds what
	 * does not fit. Not asked when both are the same. @has of length 0: none at this moment,
	 * but it may be given one.
	 */
	int64_t (*regset_fit)(const struct arch_set *set, const struct arch_set *has, uint8_t *ret);
	/*
	 * Why @set, whose length is one that the list has, is none that any thread could have, as
	 * what a sentence about it goes on with; NULL: it may be one. NULL: all of them may.
	 */
	const char *(*set_wrong)(const struct arch_set *set);
	/*
	 * Why @set, just read of a thread that is to be dumped, cannot be put back, as what a
	 * sentence "thread N: ..." goes on with; NULL: it can. NULL: all of them can.
	 */
	const char *(*set_lost)(const struct arch_set *set);
	/*
	 * Why a process that has protection keys cannot be put back, as what a sentence "it has
	 * protection keys: ..." goes on with; NULL: it can.
	 */
	const char *keys_lost;
	/* A set without which NT_PRSTATUS may be refused, so written before it; 0: none. */
	uint32_t early_note;
	uint32_t red_zone; /* bytes below the stack pointer that are the program's own */

	/* What frame() is made of beside NT_PRSTATUS, at most ARCH_FRAME_NOTES; ends with 0. */
	const uint32_t *frame_notes;
	/*
	 * A signal frame at address @addr, to which "system call; return" returns: it leads
	 * rt_sigreturn, to be made at @sigreturn_pc, to @prstatus, @sets (in the order of
	 * frame_notes) and @sigmask. Returns
	 * its length, 0 when @room is too small or the state does not fit a frame. @addr is a
	 * multiple of 64. A call that was to be restarted is, but a sleep that the kernel would
	 * have continued returns EINTR: rt_sigreturn forgets its deadline.
	 */
	size_t (*frame)(void *buf, size_t room, uint64_t addr, uint64_t sigreturn_pc,
			const void *prstatus, const struct arch_set *sets, uint64_t sigmask);

	/*
	 * Sets of which a system call, or a signal frame that is silent about them, leaves nothing,
	 * where is_lost() says that they are in use. They are saved with prstatus, and put back
	 * with it, in this order. At most ARCH_LOST_NOTES; ends with 0. NULL: none.
	 */
	const uint32_t *lost_notes;
	bool (*is_lost)(const struct arch_set *set);

	/* The code for one thread, to run at @addr with the control block at @control. */
	const uint8_t *code_start, *code_stopped, *code_end; /* as assembled, for the offsets */
	void (*code)(void *buf, uint64_t addr, uint64_t control);

	/*
	 * The control block, to lie at @addr; its length, control_len at most. @sigval comes with
	 * the closing signal. @lost: what calls leave nothing of, in the order of lost_notes; len
	 * 0: it is not in use. @asleep: @prstatus is at a sleep that the kernel keeps the end of,
	 * which only CPUs with steps_back are told.
	 */
	size_t control_len;
	size_t (*control)(void *control, uint64_t addr, const void *prstatus,
			  const struct arch_set lost[ARCH_LOST_NOTES], bool asleep,
			  uint64_t sigmask, int signo, uint64_t sigval);
	/* Registers for `run` over @n calls at @table, closing with @signo. */
	void (*set_run)(void *prstatus, uint64_t code, uint64_t control, uint64_t table, uint64_t n,
			int signo);
	/* Registers for `boot` with one call, and its result at the closing stop. */
	void (*set_boot)(void *prstatus, uint64_t code, uint64_t control, uint64_t nr,
			 const uint64_t args[6], int signo);
	int64_t (*boot_ret)(const void *prstatus);
	/*
	 * A register that has one value for all threads until a thread writes to it, or none that a
	 * tracer could give it: a set of @lazy_note (0: no such register) put into any other thread
	 * is without effect, or refused. Registers for a run that writes to it and then makes a
	 * call without effect.
	 */
	uint32_t lazy_note;
	void (*set_lazy)(void *prstatus, uint64_t code, uint64_t control, uint64_t area);
	/*
	 * Whether @set asks for such a run, and how the memory at set_lazy()'s @area begins then,
	 * which is a multiple of 64. NULL: it does when it is not as the thread has it, without
	 * memory.
	 */
	bool (*lazy_area)(const struct arch_set *set, uint8_t ret[ARCH_LAZY_LEN]);
	/*
	 * Not at a system call, and with registers that the kernel loads on its way from an
	 * interrupt alone. NULL: no such.
	 */
	bool (*by_interrupt)(const void *prstatus);
	/*
	 * The CPU that @set is from has registers that this one lacks: their names, and whether the
	 * thread had something in them. @permitted: what arch_permits.get told of its process, 0:
	 * nothing; what it was not permitted and holds nothing is not lacking. NULL: sets of the
	 * same length are from the same registers.
	 */
	bool (*cpu_lacks)(const struct arch_set *set, uint64_t permitted, bool *ret_used, char *buf,
			  size_t len);
	/*
	 * The words of arch_desc.ins as this CPU has them: all of their bits, but for instructions
	 * that are of no use here. The CPU is asked once: see host_ready(). NULL: where ins is.
	 */
	void (*ins_words)(uint32_t ret[ARCH_INS_WORDS]);
	const struct arch_shadow *shadow;   /* NULL: this CPU has none */
	const struct arch_permits *permits; /* NULL: likewise */
	const struct arch_gdt *gdt;	    /* likewise */
	/*
	 * A set that a thread has when the kernel lets it use I/O ports of a list of its own, which
	 * no tracer can write. 0: no such.
	 */
	uint32_t ports_note;
	uint64_t ports_nr; /* the call that gives it; ENOSYS for nothing: nobody has it */
};

extern const struct arch_inject arch_inject;
extern const struct arch_shadow x86_shadow, aarch64_shadow; /* x86/shstk.c, aarch64/gcs.c */
extern const struct arch_gdt x86_gdt;			    /* x86/gdt.c */
extern const struct arch_oddity x86_oddities[];		    /* x86/odd.c */
extern const struct arch_permits x86_permits;		    /* x86/features.c */

static inline void arch_no_call(void *prstatus)
{
	(arch_inject.no_call ? arch_inject.no_call : arch_inject.skip_call)(prstatus);
}

#endif
