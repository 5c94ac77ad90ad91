# Read by llama.cpp's CMake project (see .cargo/config.toml). Only the library itself is wanted: the helpers under `common`
# are never linked, because the Rust side asks for no feature that calls them. Without this file the build is right too,
# it only takes twice as long.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "not linked" FORCE)
