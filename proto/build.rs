//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

#[path = "build/shapes.rs"]
mod shapes;

const FILES: [&str; 11] = [
    "customhouse/v1/admin.proto",
    "customhouse/v1/agreement.proto",
    "customhouse/v1/attachment.proto",
    "customhouse/v1/audit.proto",
    "customhouse/v1/import.proto",
    "customhouse/v1/ledger.proto",
    "customhouse/v1/peer.proto",
    "customhouse/v1/query.proto",
    "customhouse/v1/record.proto",
    "customhouse/v1/sealed.proto",
    "customhouse/v1/submission.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=customhouse");
    let descriptors = protox::compile(FILES, ["."])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    // Served by gRPC reflection.
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out_dir.join("shapes.rs"), shapes::of(&descriptors, "Record")?)?;
    let has = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    // The strict codec looks messages up by their names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::strict::StrictCodec")
        .build_client(has("CLIENT"))
        .build_server(has("SERVER"))
        .build_transport(false)
        // Transactions are shared between the mempool, the network and the store without copies.
        .bytes(".customhouse.v1.Transaction")
        .bytes(".customhouse.v1.TransactionBatch")
        .bytes(".customhouse.v1.TransactionsResponse")
        .bytes(".customhouse.v1.BlockWithBody")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
