//! Lets C modules of Lua (lua-cjson and the like) find the `lua_*` symbols in the program that loads them.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-rdynamic");
}
