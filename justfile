# The words of daily work. Continuous integration says the same ones: .ci/run calls ./test, which holds every check.

# What there is
default:
    @just --list --unsorted

# Format, clippy and the house rules: under a minute when warm
check:
    cargo fmt --all --check
    cargo clippy --workspace --exclude penstock-provider-local --exclude penstock --all-targets -- -D warnings
    cargo clippy -p penstock --no-default-features --all-targets -- -D warnings
    cargo xtask tidy

# The same, with the embedded engine (needs cmake, a C++ compiler, libclang)
check-all:
    cargo clippy --workspace --all-targets -- -D warnings

# Everything: unit, integration, SDKs, real servers, generated files
test *ARGS:
    ./test {{ARGS}}

# Accept changed snapshots; look at the difference before you commit it
golden:
    INSTA_UPDATE=always cargo test --workspace --exclude penstock-provider-local --exclude xtask
    git diff --stat

# The house rules alone; with a program also that generated files are fresh
tidy *ARGS:
    cargo xtask tidy {{ARGS}}

# Write the reference files that the program prints
generate:
    cargo build -p penstock
    cargo xtask generate

# Licences, bans, sources (needs cargo-deny 0.20)
deny:
    cargo deny check bans licenses sources

# Build and start a gateway
run *ARGS:
    ./run {{ARGS}}

# What a request costs, beside nginx and a direct run
bench *ARGS:
    bench/run {{ARGS}}

# What is shipped
release:
    cargo build --profile dist --locked -p penstock

# The same, guided by a profile of its own work (needs `rustup component add llvm-tools`)
release-guided *ARGS:
    scripts/build-guided {{ARGS}}
