//! What layers cost: tars written, unpacked and compressed, trees compared.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use cache::layer::compress::{Compression, compress};
use cache::layer::{
    DiffOptions, DirectoryOptions, DirectorySink, Flavor, TarSink, UnpackOptions, diff, unpack,
    write_tar,
};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// Everything, with nothing below.
const WHOLE: DiffOptions = DiffOptions { flavor: Flavor::Trusted, lower: None, all_xattrs: false };

fn directory(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// 20,000 files of 0 to 12 KiB in 400 directories, 80 MB of them, half compressible.
fn small_files(root: &Path) {
    let mut noise = 1_u32;
    let words: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"etaoin shrdlu\n"[(noise >> 24) as usize % 14]
    })
    .take(1 << 20)
    .collect();
    for n in 0..20_000_usize {
        let parent = root.join(format!("usr/share/{}/{}", n % 20, n % 400));
        if n < 400 {
            fs::create_dir_all(&parent).unwrap();
        }
        let (start, length) = (n * 37 % (1 << 19), n * 7919 % 8192 + n % 4096);
        fs::write(parent.join(format!("file-{n}")), &words[start..start + length]).unwrap();
    }
}

fn sink(root: &Path) -> DirectorySink {
    DirectorySink::new(directory(root), DirectoryOptions::new(Flavor::Trusted)).unwrap()
}

fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("20,000 small files");
    group.sample_size(10);
    let tree = tempfile::tempdir().unwrap();
    small_files(tree.path());
    let root = directory(tree.path());
    let mut tar = Vec::new();
    write_tar(&root, &WHOLE, &mut tar).unwrap();
    let mut gzip = Vec::new();
    compress(&mut &tar[..], &mut gzip, Compression::GZIP).unwrap();

    group.bench_function("walk, tar, hash", |b| {
        b.iter(|| write_tar(&root, &WHOLE, &mut io::sink()).unwrap());
    });
    group.bench_function("walk, tar", |b| {
        b.iter(|| diff(&root, &WHOLE, &mut TarSink::new(io::sink())).unwrap());
    });
    let fresh = || tempfile::tempdir().unwrap();
    group.bench_function("copy to a directory", |b| {
        b.iter_batched(
            fresh,
            |to| {
                let mut sink = sink(to.path());
                diff(&root, &WHOLE, &mut sink).unwrap();
                sink.finish().unwrap();
                to
            },
            BatchSize::PerIteration,
        );
    });
    for (name, archive) in [("unpack the tar", &tar), ("unpack the gzip", &gzip)] {
        group.bench_function(name, |b| {
            b.iter_batched(
                fresh,
                |to| {
                    unpack(&archive[..], sink(to.path()), &UnpackOptions::default()).unwrap();
                    to
                },
                BatchSize::PerIteration,
            );
        });
    }
    for (name, compression) in [("gzip", Compression::GZIP), ("zstd", Compression::ZSTD)] {
        group.bench_function(name, |b| {
            b.iter(|| compress(&mut &tar[..], &mut io::sink(), compression).unwrap());
        });
    }
    group.finish();
}

fn large_file(c: &mut Criterion) {
    let mut group = c.benchmark_group("1 GiB file");
    group.sample_size(10);
    let tree = tempfile::tempdir().unwrap();
    let mut file = File::create(tree.path().join("large")).unwrap();
    let block: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    for _ in 0..1024 {
        file.write_all(&block).unwrap();
    }
    let root = directory(tree.path());
    group.bench_function("walk, tar, hash", |b| {
        b.iter(|| write_tar(&root, &WHOLE, &mut io::sink()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, layers, large_file);
criterion_main!(benches);
