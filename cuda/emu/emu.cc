/* emu.cc -- threads of a block as fibers. */
#include "gpu.h"

#ifndef __x86_64__
#include <ucontext.h>
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define STACK ((size_t)128 << 10)
#define THREADS_MAX 1024
#define SLOT 64 /* bytes that a lane can give */

enum state { READY, AT_WARP, AT_BLOCK, DONE };

/* --- where a stack goes on: swapcontext would ask the kernel for the signal mask each time
 * --------
 */

#ifdef __x86_64__

typedef void *place;

extern "C" void emu_switch(place *from, place to);

/* What a callee saves, then the stack pointer. */
asm(".text\n"
    ".globl emu_switch\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "	push %rbp\n	push %rbx\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	mov %rsp, (%rdi)\n"
    "	mov %rsi, %rsp\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbx\n	pop %rbp\n"
    "	ret\n"
    ".size emu_switch, .-emu_switch\n");

static void
jump(place *from, place *to)
{
	emu_switch(from, *to);
}

/* As if emu_switch had been called on the stack, to return to the entry. */
static void
prepare(place *to, unsigned char *stack, void (*entry)(void))
{
	void **top = (void **)(stack + STACK) - 8;

	memset(top, 0, 8 * sizeof(*top));
	top[6] = (void *)entry;
	*to = top;
}

#else

typedef ucontext_t place;

static void
jump(place *from, place *to)
{
	swapcontext(from, to);
}

static void
prepare(place *to, unsigned char *stack, void (*entry)(void))
{
	getcontext(to);
	to->uc_stack.ss_sp = stack;
	to->uc_stack.ss_size = STACK;
	to->uc_link = NULL;
	makecontext(to, entry, 0);
}

#endif

/* --- fibers ----------------------------------------------------------------------------------
 */

struct fiber {
	place at;
	unsigned char *stack; /* whoever has one is within enter() */
	void *fake;	      /* AddressSanitizer's */
	enum state state;
	__align__(16) unsigned char slot[SLOT];
};

dim3 emu_block, emu_grid, emu_threads;
unsigned char *emu_shared;
unsigned emu_order;

static fiber fibers[THREADS_MAX];
static place scheduler;
static void *scheduler_fake;
static unsigned now;
static void (*body)(void *);
static void *body_arg;

unsigned
emu_index(void)
{
	return now;
}

/* AddressSanitizer wants to know of every change of stacks. */
static void
leaving(void **fake, const void *stack, size_t size)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(fake, stack, size);
#else
	(void)fake;
	(void)stack;
	(void)size;
#endif
}

static const void *scheduler_stack;
static size_t scheduler_size;

static void
arrived(void *fake, const void **stack, size_t *size)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(fake, stack, size);
#else
	(void)fake;
	(void)stack;
	(void)size;
#endif
}

static void
wait_as(enum state state)
{
	fiber *self = &fibers[now];

	self->state = state;
	leaving(&self->fake, scheduler_stack, scheduler_size);
	jump(&self->at, &scheduler);
	arrived(self->fake, &scheduler_stack, &scheduler_size);
}

void
emu_block_wait(void)
{
	wait_as(AT_BLOCK);
}

void
emu_warp_wait(void)
{
	wait_as(AT_WARP);
}

/* One thread of each block, for ever. */
static void
enter(void)
{
	arrived(NULL, &scheduler_stack, &scheduler_size);
	for (;;) {
		body(body_arg);
		wait_as(DONE);
	}
}

void
emu_exchange(const void *mine, void *theirs, size_t size, unsigned from)
{
	SP_ASSERT(size <= SLOT);
	memcpy(fibers[now].slot, mine, size);
	emu_warp_wait();
	memcpy(theirs, fibers[now / 32 * 32 + from].slot, size);
	emu_warp_wait();
}

void
emu_collect(const void *mine, void *theirs, size_t size)
{
	SP_ASSERT(size <= SLOT);
	memcpy(fibers[now].slot, mine, size);
	emu_warp_wait();
	for (unsigned lane = 0; lane < 32; lane++)
		memcpy(
		    (unsigned char *)theirs + lane * size, fibers[now / 32 * 32 + lane].slot, size);
	emu_warp_wait();
}

/* 31 is prime to the count: a multiple of 32 that is no multiple of 31. */
static unsigned
turn(unsigned i, unsigned count)
{
	if (emu_order == 1)
		return count - 1 - i;
	return emu_order == 2 && count % 31 != 0 ? (unsigned)((uint64_t)i * 31 % count) : i;
}

static int
release(unsigned first, unsigned count, enum state from)
{
	int waiting = 0;

	for (unsigned i = first; i < first + count; i++) {
		if (fibers[i].state != from && fibers[i].state != DONE)
			return 0;
		waiting |= fibers[i].state == from;
	}
	for (unsigned i = first; i < first + count; i++) {
		if (fibers[i].state == from)
			fibers[i].state = READY;
	}
	return waiting;
}

static void
run_block(unsigned threads)
{
	int alive = 1;

	for (unsigned i = 0; i < threads; i++)
		fibers[i].state = READY;
	while (alive) {
		for (unsigned k = 0; k < threads; k++) {
			now = turn(k, threads);
			if (fibers[now].state != READY)
				continue;
			leaving(&scheduler_fake, fibers[now].stack, STACK);
			jump(&scheduler, &fibers[now].at);
			arrived(scheduler_fake, NULL, NULL);
		}
		alive = 0;
		for (unsigned w = 0; w < threads; w += 32)
			alive |= release(w, 32, AT_WARP);
		if (!alive)
			alive = release(0, threads, AT_BLOCK);
	}
	for (unsigned i = 0; i < threads; i++)
		SP_ASSERT(fibers[i].state == DONE); /* a barrier that not all reach */
}

void
emu_run(dim3 grid, unsigned threads, size_t shared, void (*run)(void *), void *arg)
{
	unsigned count = grid.x * grid.y * grid.z;

	SP_ASSERT(threads % 32 == 0 && threads > 0 && threads <= THREADS_MAX && count > 0);
	SP_ASSERT(shared <= (size_t)99 << 10); /* what every GPU from sm_80 on has */
	for (unsigned i = 0; i < threads; i++) {
		if (fibers[i].stack == NULL) {
			fibers[i].stack = (unsigned char *)sp_xcalloc(1, STACK);
			prepare(&fibers[i].at, fibers[i].stack, enter);
		}
	}
	emu_grid = grid;
	emu_threads = dim3(threads);
	body = run;
	body_arg = arg;
	for (unsigned k = 0; k < count; k++) {
		unsigned i = turn(k, count);

		emu_block = dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y);
		/* of its own each time, so that AddressSanitizer sees its end */
		emu_shared = (unsigned char *)aligned_alloc(256, shared / 256 * 256 + 256);
		SP_ASSERT(emu_shared != NULL);
		memset(emu_shared, 0xff, shared);
		run_block(threads);
		free(emu_shared);
	}
}
