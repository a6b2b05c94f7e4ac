//! Builds LuaJIT from the `luajit-src` sources and links it in.
//!
//! mlua-sys would build it too, but offers no way to pass `LUAJIT_ENABLE_CHECKHOOK`. That define makes compiled
//! loops look at the hook mask, so that a script caught in `while true do end` can be stopped; without it a hook
//! only ever fires in the interpreter. `luajit_guards.h`, which is included before each source, bounds nested calls and lets
//! hooks into finalizers. Assertions stay off in every profile: they cost more than they find here.
#![allow(unsafe_code)] // one call, reasoned below

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=luajit_guards.h");
    println!("cargo:rerun-if-env-changed=TARGET_CFLAGS");
    // LuaJIT's Makefile leaves TARGET_CFLAGS to its caller and luajit-src does not set it. The make runs in LuaJIT's
    // folder; a shell splits the flags.
    let header = concat!("'", env!("CARGO_MANIFEST_DIR"), "/luajit_guards.h'");
    let wanted = format!("-DLUAJIT_ENABLE_CHECKHOOK -iquote . -include {header}");
    let flags = match std::env::var("TARGET_CFLAGS") {
        Ok(given) => format!("{given} {wanted}"),
        Err(_) => wanted,
    };
    // SAFETY: a build script of one thread; nothing else reads the environment meanwhile.
    unsafe { std::env::set_var("TARGET_CFLAGS", flags) };
    luajit_src::Build::new().debug(false).build().print_cargo_metadata();
    // C modules (lua-cjson and the like) look the lua_* symbols up in the program that loads them. This covers the
    // tests of this crate; the program itself asks for the same in its own build script.
    println!("cargo:rustc-link-arg=-rdynamic");
}
