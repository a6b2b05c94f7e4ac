/* Included before every source of LuaJIT when it is built (build.rs). Owns two changes to it, each of a macro's size:
 *
 * - A call from C into Lua fails when the thread's stack is nearly used up: recursion through string.gsub, table.sort,
 *   an error handler or a C module gets the error "C stack overflow" instead of ending the process.
 * - Hooks are called in finalizers (__gc) too, so that one that never returns can be stopped.
 */
#ifndef __ASSEMBLER__
/* luajit.c has it before it includes anything; it adds names to luaconf.h. */
#define luajit_c
#include "lj_obj.h"
#include "lj_err.h"
#include "lj_str.h"
#include "lj_vm.h"
#include "lj_ccall.h"

/* The front of the Rust struct `Budget`, the allocator's argument; a change here is a change there. */
typedef struct {
  size_t stack_limit;      /* Calls from below this address fail. */
  size_t handler_limit;    /* The same for calls made by error handlers. */
} pm_budget;

static inline int pm_is_deep(lua_State *L)
{
  const pm_budget *budget = (const pm_budget *)G(L)->allocd;
  size_t here = (size_t)__builtin_frame_address(0);
  return LJ_UNLIKELY(here < budget->stack_limit) &&
	 (L->status != LUA_ERRERR || here < budget->handler_limit);
}

static LJ_NOINLINE LJ_NORET void pm_refuse(lua_State *L)
{
  if (L->status == LUA_ERRERR) {
    setstrV(L, L->top++, lj_err_str(L, LJ_ERR_ERRERR));
    lj_err_throw(L, LUA_ERRERR);
  }
  lj_err_callermsg(L, "C stack overflow");
}

/* An unprotected call raises the error. */
static inline void pm_call(lua_State *L, TValue *base, int nres1)
{
  if (pm_is_deep(L)) pm_refuse(L);
  lj_vm_call(L, base, nres1);
}

/* FFI calls, whose C function may call back. */
static inline void pm_ffi_call(lua_State *L, CCallState *cc)
{
  if (pm_is_deep(L)) pm_refuse(L);
  lj_vm_ffi_call(cc);
}

/* A protected one returns it. */
static inline int pm_pcall(lua_State *L, TValue *base, int nres1, ptrdiff_t ef)
{
  if (pm_is_deep(L)) {
    TValue *func = base-1-LJ_FR2;
    setstrV(L, func, lj_str_newlit(L, "C stack overflow"));
    L->top = func+1;
    return LUA_ERRRUN;
  }
  return lj_vm_pcall(L, base, nres1, ef);
}

/* They begin after the functions above, which call LuaJIT's own. */
#define lj_vm_call(L, base, nres1)	pm_call(L, base, nres1)
#define lj_vm_pcall(L, base, nres1, ef)	pm_pcall(L, base, nres1, ef)
/* Its only call has L at hand. */
#define lj_vm_ffi_call(cc)		pm_ffi_call(L, cc)

#undef hook_entergc
#define hook_entergc(g) \
  ((g)->hookmask = ((g)->hookmask | HOOK_GC) & ~(HOOK_ACTIVE|HOOK_PROFILE))
#endif
