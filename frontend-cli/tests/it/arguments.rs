//! argv → what is meant, as tables: one command line a line.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::CommandFactory as _;
use expect_test::{Expect, expect};
use frontend_cli::build_args::{Build, resolve};
use frontend_cli::cli::{Cli, Subcommand};
use frontend_cli::environment::Environment;

/// What the flag, the environment or the spelling changes. Each must change something.
const HONOURED: &str = "
    -t app -t localhost:5000/a/b:1.0 .
    --tag app .
    -f web.Dockerfile .
    --file=/abs/Dockerfile .
    -f - .
    -
    Cargo.toml
    https://github.com/a/b.git
    git@github.com:a/b
    https://x/context.tar.gz
    -f https://x/Dockerfile .
    --build-context c=https://x/y .
    --ignorefile Cargo.toml .
    --target build .
    --target app,test --also lint,docs --also more .
    --platform linux/amd64,linux/arm64 --platform local .
    --build-arg A=1 --build-arg B= --build-arg FROM_ENV --build-arg NOT_SET --build-arg=A=2 .
    --build-arg A=-x --build-arg SOURCE_DATE_EPOCH=context .
    --build-context base=docker-image://alpine --build-context lib=../parser .
    --secret id=key,src=Cargo.toml --secret id=FROM_ENV --secret id=x,env=TOKEN .
    --ssh default --ssh a=Cargo.toml,src/main.rs .
    --secret type=env,id=x,src=TOKEN --secret id=Cargo.toml .
    --pull .
    --pull=missing --pull=newer .
    --pull=never .
    --offline --pull=newer .
    -o out .
    -o - .
    -o type=oci,dest=a.tar .
    -o type=oci .
    -o type=oci,dest=dir,tar=false,oci-mediatypes=true .
    -o type=docker,dest=a.tar,compression=zstd,compression-level=19,force-compression=true .
    --output type=docker --tag app .
    -o type=local,dest=out,platform-split=false .
    -o type=tar,dest=a.tar .
    -o type=tar,dest=a.tar,platform-split=true .
    --output 'type=image,\"name=a,b:2\",push=false,annotation.Key=v' .
    --output type=registry,name=a:1,registry.insecure=true,compression=zstd,store=false .
    --output type=image,push=true,push-by-digest=true,name-canonical=true,name=a .
    --push -t a:1 -o out -o type=image .
    --push -t a:1 -o out .
    -o type=oci,dest=a.tar,name=app,annotation-manifest.k=v,rewrite-timestamp=false .
    -o type=tar,dest=a.tar,source-date-epoch=5 -o type=image,rewrite-timestamp=all .
    -o type=local,dest=out,source-date-epoch= .
    --load -o out .
    -o type=oci,dest=x,compression=estargz -o type=oci,dest=y,compression=zstd:chunked,compression-level=20 .
    -o type=image,compression=zstd,unpack=true .
    -o type=registry,name=a,compression-level=9,name-canonical=true .
    -o type=registry,name=a,compression=uncompressed .
    -o type=image,name=a,name-canonical=true,dangling-name-prefix=left,danging-name-empty-only=true .
    -o type=cacheonly -t x .
    -o type=oci,dest=x,oci-mediatypes=false,prefer-nondist-layers=true .
    -o type=oci,name=a,dest=x -t b -o type=oci,dest=y,annotation.k=v .
    -o type=local,dest=x,mode=delete .
    -o type=local,dest=/,mode=delete --allow buildx.local.delete .
    --iidfile id .
    --metadata-file meta.json .
    --label a=b --label c --label d=e=f .
    --unset-env A --unsetenv B --unset-label c --unset-volume /d --unset-expose 80 --unset-expose 53/UDP .
    --squash .
    --annotation k=v --annotation manifest:m=v .
    --annotation index,manifest[linux/arm64]:k=a:b=c --annotation index-descriptor:d=1 .
    -o type=oci,dest=a.tar,annotation-index.Key=v,annotation[linux/arm64].k=1,annotation-manifest-descriptor[linux/amd64].k=2 .
    --no-cache .
    --no-cache --keep-cache-mounts .
    --no-cache-filter build,test --no-cache-filter x .
    --network none .
    --network=host .
    --add-host a:1.2.3.4 --add-host b=::1 --add-host c:[fe80::1] --add-host d:host-gateway .
    --allow network.host --allow security.insecure --allow device --allow device=v.com/c=d .
    --shm-size 64m .
    --shm-size=1.5GiB .
    --ulimit nofile=1024:2048 --ulimit core=-1 --ulimit nproc=10 .
    --cgroup-parent /builds .
    --memory 512m --memory-swap 1g --cpu-shares 512 --cpu-period 50000 --cpu-quota 25000 .
    --cpuset-cpus 0-2,7 --cpuset-mems 0 --step-disk 10g -m 1g -c 2 .
    --resource memory=1g,cpu-shares=2 --resource '\"cpuset-cpus=0,1\"' .
    --hostname box .
    -j 3 .
    --jobs=1 .
    --progress json .
    --progress=rawjson .
    --progress none .
    -q .
    --check .
    --check=fix .
    --check=fix --write .
    --call check,ignorestatus .
    --call lint,format=json,ignorestatus=false .
    --call format=sarif,check .
    --call check,format=github .
    --call outline,format=json .
    --call targets .
    --call subrequests.describe,format=text .
    --opt requestid=frontend.lint .
    --print dag=dot .
    --print=dag .
    --opt build-arg:A=1 --opt label:l=v --opt context:c=docker-image://x --opt target=t .
    --opt platform=linux/arm64 --opt filename=x --opt no-cache --opt cgroup-parent=/p .
    --opt no-cache=s1,s2 --opt add-hosts=a=1.2.3.4,b=::1 --opt shm-size=134217728 .
    --opt ulimit=nofile=1:2,nproc=3 --opt force-network-mode=none --opt hostname=h .
    --opt image-resolve-mode=pull .
    --opt multi-platform=true .
    --opt build-arg:FROM_ENV --opt build-arg:NOT_SET .
    --build-arg BUILDKIT_MULTI_PLATFORM=0 .
    --opt memory=1g --opt memswap=2g --opt cpushares=3 --opt cpuperiod=1000 --opt cpuquota=4 .
    --opt cpusetcpus=1 --opt cpusetmems=0 .
    --rm --force-rm --compress .
    --rm=false --force-rm=0 --compress=F .
";

/// What is understood and changes nothing, because it asks for what is so anyway.
const SO_ANYWAY: &str = "
    .
    build .
    image build .
    buildx build .
    builder build .
    --no-cache --no-cache=false .
    --push=false --quiet=false .
    --pull=false .
    -m 0 --memory-swap -1 --cpu-quota -1 --cpuset-cpus= .
    --provenance=false --sbom=false --attest type=sbom,disabled=true .
    --isolation default .
    --network default .
    --call build .
    --check=false .
    --progress auto .
    --opt attest:provenance=disabled=true --opt frontend.caps=moby.buildkit.frontend.contexts,x+forward .
    --load .
";

/// What is refused, by name.
const REFUSED: &str = "
    nosuch
    -f - -
    -f web/Containerfile.in .
    --build-context c .
    -t a/UPPER .
    -t a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 .
    --platform linux//x .
    --platform linux/amd46 .
    --build-arg BUILDKIT_INLINE_CACHE=what .
    --build-arg =v .
    --label =v .
    --annotation k .
    --annotation manifst:k=v .
    --annotation index[linux/amd64]:k=v .
    --annotation manifest[]:k=v .
    --annotation manifest[amd64/linux]:k=v .
    -o type=oci,dest=x,annotation-indx.k=v .
    --build-arg BUILDKIT_MULTI_PLATFORM=some .
    --opt multi-platform=false --platform linux/amd64,linux/arm64 .
    --secret src=x .
    --secret id=x,src=/nosuch/file .
    --secret id=x,what=1 .
    --secret id=x,type=vault .
    --secret id=x,src=a,env=b .
    --secret plain .
    --unset-expose 80-90 .
    --unset-env '' .
    --ssh id=x,raw=true .
    --ssh default=/nosuch/file .
    --ssh a=Cargo.toml --ssh a=Cargo.toml .
    --add-host a .
    --network none --add-host a:host-gateway .
    --add-host a:notanip .
    --allow device=a,alias=b .
    --network bridge .
    --shm-size big .
    --shm-size 99999999p .
    --ulimit nofile .
    --ulimit what=1 .
    --ulimit nofile=2:1 .
    --ulimit nofile=-1:5 .
    --hostname 'a b' .
    --jobs 0 .
    --jobs many .
    --pull=sometimes .
    --offline --pull .
    --keep-cache-mounts .
    --progress fancy .
    --progress tty .
    -q --progress plain .
    --call convertllb .
    --call targets,format=sarif .
    --call check,format=xml .
    --call check,outline .
    --call build,format=json .
    --check=some .
    --check=fix --call outline .
    --check --write .
    --opt requestid=lint .
    --print outline .
    --print dag --check .
    -o type=registry,push=false,name=x .
    -o type=image,push=true .
    -o type=registry,push-by-digest=true,name=x:1 .
    -o type=image,registry.insecure=true .
    -o type=image,dest=x .
    -o type=image,store=false .
    -o type=ova,dest=x .
    -o dest=x,name=y .
    -o type=oci,dest=x,compression=nydus .
    -o type=oci,dest=x,compression=estargz,oci-mediatypes=false .
    -o type=oci,dest=x,compression=estargz,compression-level=10 .
    -o type=oci,dest=x,compression-level=10 .
    -o type=oci,dest=x,compression=uncompressed,compression-level=1 .
    --cache-to type=local,dest=x,mounts-max-size=1g .
    --cache-to type=local,dest=x,mounts=true,mounts-max-size=lots .
    --cache-to type=registry,ref=x,format=buildkit,mounts=true .
    --cache-to type=inline,mounts=true .
    --cache-from type=local,src=x,mounts-max-size=1g .
    -o type=oci,dest=x,rewrite-timestamp=some .
    -o type=local,dest=x,rewrite-timestamp=true .
    -o type=oci,dest=x,source-date-epoch=-1 .
    -o type=oci,dest=x,source-date-epoch=253402300800 .
    -o type=oci,dest=x,source-date-epoch=1 -o type=local,dest=y,source-date-epoch= .
    -o type=image,rewrite-timestamp=true -o type=oci,dest=x,rewrite-timestamp=all .
    -o type=oci,dest=x,tar=maybe .
    -o type=oci,tar=false .
    -o type=oci,dest=x,attestation-inline=true .
    -o type=docker,context=default .
    -o type=local .
    -o type=local,dest=- .
    -o type=local,dest=x,mode=move .
    -o type=local,dest=/,mode=delete .
    -o type=local,dest=.,mode=delete .
    -o type=local,dest=src/..,mode=delete .
    -o type=local,dest=src,mode=delete src/cli
    -o type=local,dest=x,mode=delete -o type=oci,dest=x/y.tar .
    -o type=oci,dest=x -o type=tar,dest=./x .
    -o type=oci,dest=x,oci-mediatypes=false,compression=zstd .
    -o type=oci,dest=x,oci-mediatypes=false,annotation.k=v .
    -o type=oci,dest=x,oci-mediatypes=false --annotation k=v .
    -o type=image,force-compression=true .
    -o type=image,danging-name-empty-only=true .
    -o type=image,dangling-name-prefix=a:1 .
    -o type=image,name-canonical=true .
    -o type=registry,name=a,store=false,unpack=true .
    -o type=oci,dest=x,name-canonical=true .
    -o type=local,dest=x,annotation.k=v .
    -o type=tar,dest=x,platform-split=maybe .
    -o 'type=oci,\"dest=x' .
    -o - -o type=oci .
    --opt source=docker/dockerfile:1 .
    --opt attest:sbom= .
    --opt context=https://x/y.git .
    --opt sharedkey:localdir:context=x .
    --opt frontend.caps=moby.buildkit.frontend.inputs .
    --opt tarlet=x .
    --opt image-resolve-mode=what .
    --provenance .
    --provenance=mode=max .
    --sbom=true .
    --attest type=provenance,mode=min .
    --builder remote .
    --push .
    --cache-from type=gha .
    --cache-to type=azblob .
    --policy filename=x .
    --resource cpus=1 .
    --security-opt seccomp=unconfined .
    --isolation hyperv .
    -m much .
    --memory-swap 1g .
    -m 2g --memory-swap 1g .
    --cpu-shares some .
    --cpuset-cpus all .
    --step-disk much .
";

fn lines(table: &str) -> impl Iterator<Item = &str> {
    table.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Words of a line; single quotes hold a word together.
fn words(line: &str) -> Vec<OsString> {
    let line = line.replace("\\\"", "\"");
    let mut words = vec![OsString::from("mybuild")];
    for (number, part) in line.split('\'').enumerate() {
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(OsString::from)),
            _ => words.push(part.into()),
        }
    }
    words
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables.iter().map(|(k, v)| ((*k).to_owned(), v.into())).collect(),
        ..Environment::default()
    }
}

fn build(line: &str, environment: &Environment) -> Result<Build, String> {
    let cli = frontend_cli::read(words(line)).map_err(|error| error.to_string())?;
    let Subcommand::Build(args) = cli.command else { panic!("`{line}` is not a build") };
    resolve(&args, environment).map_err(|error| match error.hint {
        Some(hint) => format!("{}\n      hint: {hint}", error.message),
        None => error.message,
    })
}

/// Every field on one line, those of the request and the client among the others.
fn fields(build: &Build) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in format!("{build:#?}").lines() {
        let depth = line.len() - line.trim_start().len();
        let is_whole = ["    request:", "    client:"].iter().any(|part| line.starts_with(part));
        if (depth == 4 || depth == 8) && !line.trim().starts_with([']', '}', ')']) && !is_whole {
            if depth == 8 && !line.trim().contains(": ") {
                // An element of a list that stands at the outer level.
                fields.last_mut().expect("a list has a name").push_str(line.trim());
            } else {
                fields.push(line.trim().to_owned());
            }
        } else if let Some(field) = fields.last_mut().filter(|_| depth > 0 && !is_whole) {
            if !line.trim().starts_with([']', '}', ')']) {
                field.push(' ');
            }
            field.push_str(line.trim());
        }
    }
    fields
}

/// Fields that are not as they are without flags.
fn changes(build: &Build) -> Vec<String> {
    let plain = fields(&self::build(".", &environment(&[])).expect("a context is all it takes"));
    fields(build).into_iter().filter(|field| !plain.contains(field)).collect()
}

fn meaning(line: &str, environment: &Environment) -> String {
    let mut out = format!("{line}\n");
    match build(line, environment) {
        Ok(build) => {
            for field in changes(&build) {
                let _ = writeln!(out, "    {field}");
            }
        }
        Err(error) => {
            let _ = writeln!(out, "    error: {error}");
        }
    }
    out
}

fn check(table: &str, environment: &Environment, expected: &Expect) {
    let actual: String = lines(table).map(|line| meaning(line, environment)).collect();
    expected.assert_eq(&actual);
}

#[test]
fn what_was_typed_becomes_what_is_meant() {
    let environment = environment(&[("FROM_ENV", "secret"), ("SSH_AUTH_SOCK", "/agent")]);
    for line in lines(HONOURED) {
        let build = build(line, &environment).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        assert!(!changes(&build).is_empty(), "`{line}` is accepted and changes nothing");
    }
    check(
        HONOURED,
        &environment,
        &expect![[r#"
        -t app -t localhost:5000/a/b:1.0 .
            tags: [ Reference { domain: "docker.io", path: "library/app", tag: None, digest: None,}, Reference { domain: "localhost:5000", path: "a/b", tag: Some( "1.0",), digest: None,},],
        --tag app .
            tags: [ Reference { domain: "docker.io", path: "library/app", tag: None, digest: None,},],
        -f web.Dockerfile .
            dockerfile: File( Some( "web.Dockerfile",),),
        --file=/abs/Dockerfile .
            dockerfile: File( Some( "/abs/Dockerfile",),),
        -f - .
            standard_input: Some(Dockerfile,),
        -
            context: Empty,
            standard_input: Some(Context,),
        Cargo.toml
            context: Archive( Path( "Cargo.toml",),),
        https://github.com/a/b.git
            context: Remote( "https://github.com/a/b.git",),
        git@github.com:a/b
            context: Remote( "git@github.com:a/b",),
        https://x/context.tar.gz
            context: Remote( "https://x/context.tar.gz",),
        -f https://x/Dockerfile .
            dockerfile: Url( "https://x/Dockerfile",),
        --build-context c=https://x/y .
            named_contexts: { "c": "https://x/y",},
        --ignorefile Cargo.toml .
            ignore_file: Some( "Cargo.toml",),
        --target build .
            target: Some( "build",),
        --target app,test --also lint,docs --also more .
            target: Some( "app",),
            also: [ "test", "lint", "docs", "more",],
        --platform linux/amd64,linux/arm64 --platform local .
            platforms: [ Platform { architecture: "amd64", os: "linux", os_version: "", os_features: [], variant: "",}, Platform { architecture: "arm64", os: "linux", os_version: "", os_features: [], variant: "",}, Platform { architecture: "amd64", os: "linux", os_version: "", os_features: [], variant: "",},],
        --build-arg A=1 --build-arg B= --build-arg FROM_ENV --build-arg NOT_SET --build-arg=A=2 .
            build_args: { "A": "2", "B": "", "FROM_ENV": "secret",},
        --build-arg A=-x --build-arg SOURCE_DATE_EPOCH=context .
            build_args: { "A": "-x", "SOURCE_DATE_EPOCH": "context",},
        --build-context base=docker-image://alpine --build-context lib=../parser .
            named_contexts: { "base": "docker-image://alpine", "lib": "../parser",},
        --secret id=key,src=Cargo.toml --secret id=FROM_ENV --secret id=x,env=TOKEN .
            secrets: [ Secret { id: "key", source: File( "Cargo.toml",),}, Secret { id: "FROM_ENV", source: Env( "FROM_ENV",),}, Secret { id: "x", source: Env( "TOKEN",),},],
        --ssh default --ssh a=Cargo.toml,src/main.rs .
            agents: [Wanted { id: "default", source: Socket( "/agent",),},Wanted { id: "a", source: KeyFiles( [ "Cargo.toml", "src/main.rs",],),},],
        --secret type=env,id=x,src=TOKEN --secret id=Cargo.toml .
            secrets: [ Secret { id: "x", source: Env( "TOKEN",),}, Secret { id: "Cargo.toml", source: File( "Cargo.toml",),},],
        --pull .
            pull: Always,
        --pull=missing --pull=newer .
            pull: Newer,
        --pull=never .
            pull: Never,
        --offline --pull=newer .
            pull: Newer,
            offline: true,
        -o out .
            outputs: [ Local { dest: "out", platform_split: None, mode: Copy,},],
        -o - .
            outputs: [ Tar { dest: Stdout, platform_split: None,},],
        -o type=oci,dest=a.tar .
            outputs: [ Oci { dest: Path( "a.tar",), tar: true, form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: false,},},],
        -o type=oci .
            outputs: [ Oci { dest: Stdout, tar: true, form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: false,},},],
        -o type=oci,dest=dir,tar=false,oci-mediatypes=true .
            outputs: [ Oci { dest: Path( "dir",), tar: false, form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: false,},},],
        -o type=docker,dest=a.tar,compression=zstd,compression-level=19,force-compression=true .
            outputs: [ Docker { dest: Path( "a.tar",), tar: true, form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Zstd, level: Some( 19,), force: true,}, keeps_nondistributable: false,},},],
        --output type=docker --tag app .
            tags: [ Reference { domain: "docker.io", path: "library/app", tag: None, digest: None,},],
            outputs: [ Image { form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: true, push: None,},],
        -o type=local,dest=out,platform-split=false .
            outputs: [ Local { dest: "out", platform_split: Some( false,), mode: Copy,},],
        -o type=tar,dest=a.tar .
            outputs: [ Tar { dest: Path( "a.tar",), platform_split: None,},],
        -o type=tar,dest=a.tar,platform-split=true .
            outputs: [ Tar { dest: Path( "a.tar",), platform_split: Some( true,),},],
        --output 'type=image,"name=a,b:2",push=false,annotation.Key=v' .
            outputs: [ Image { form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/a", tag: None, digest: None,}, Reference { domain: "docker.io", path: "library/b", tag: Some( "2",), digest: None,},], annotations: [ Annotation { level: Manifest, platform: None, key: "Key", value: "v",},], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: true, push: None,},],
        --output type=registry,name=a:1,registry.insecure=true,compression=zstd,store=false .
            outputs: [ Image { form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/a", tag: Some( "1",), digest: None,},], annotations: [], media_types: Oci, compression: Compression { algorithm: Zstd, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: false, push: Some( Push { by_digest: false, insecure: true, compression: Compression { algorithm: Zstd, level: None, force: false,},},),},],
        --output type=image,push=true,push-by-digest=true,name-canonical=true,name=a .
            outputs: [ Image { form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/a", tag: None, digest: None,},], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: true, dangling: None,}, unpack: false, store: true, push: Some( Push { by_digest: true, insecure: false, compression: Compression { algorithm: Gzip, level: None, force: false,},},),},],
        --push -t a:1 -o out -o type=image .
            tags: [ Reference { domain: "docker.io", path: "library/a", tag: Some( "1",), digest: None,},],
            outputs: [ Local { dest: "out", platform_split: None, mode: Copy,}, Image { form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: true, push: Some( Push { by_digest: false, insecure: false, compression: Compression { algorithm: Gzip, level: None, force: false,},},),},],
        --push -t a:1 -o out .
            tags: [ Reference { domain: "docker.io", path: "library/a", tag: Some( "1",), digest: None,},],
            outputs: [ Local { dest: "out", platform_split: None, mode: Copy,}, Image { form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: true, push: Some( Push { by_digest: false, insecure: false, compression: Compression { algorithm: Gzip, level: None, force: false,},},),},],
        -o type=oci,dest=a.tar,name=app,annotation-manifest.k=v,rewrite-timestamp=false .
            outputs: [ Oci { dest: Path( "a.tar",), tar: true, form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/app", tag: None, digest: None,},], annotations: [ Annotation { level: Manifest, platform: None, key: "k", value: "v",},], media_types: Oci, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: false,},},],
            times: Times { epoch: OfBuild, rewrite: None,},
        -o type=tar,dest=a.tar,source-date-epoch=5 -o type=image,rewrite-timestamp=all .
            outputs: [ Tar { dest: Path( "a.tar",), platform_split: None,}, Image { form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: true, push: None,},],
            times: Times { epoch: Given( 5,), rewrite: All,},
        -o type=local,dest=out,source-date-epoch= .
            outputs: [ Local { dest: "out", platform_split: None, mode: Copy,},],
            times: Times { epoch: None, rewrite: Default,},
        --load -o out .
            outputs: [ Local { dest: "out", platform_split: None, mode: Copy,}, Image { form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: true, push: None,},],
        -o type=oci,dest=x,compression=estargz -o type=oci,dest=y,compression=zstd:chunked,compression-level=20 .
            outputs: [ Oci { dest: Path( "x",), tar: true, form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Estargz, level: None, force: false,}, keeps_nondistributable: false,},}, Oci { dest: Path( "y",), tar: true, form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: ZstdChunked, level: Some( 20,), force: false,}, keeps_nondistributable: false,},},],
        -o type=image,compression=zstd,unpack=true .
            outputs: [ Image { form: ImageForm { names: [], annotations: [], media_types: Oci, compression: Compression { algorithm: Zstd, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: true, store: true, push: None,},],
        -o type=registry,name=a,compression-level=9,name-canonical=true .
            outputs: [ Image { form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/a", tag: None, digest: None,},], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: true, dangling: None,}, unpack: false, store: true, push: Some( Push { by_digest: false, insecure: false, compression: Compression { algorithm: Gzip, level: Some( 9,), force: false,},},),},],
        -o type=registry,name=a,compression=uncompressed .
            outputs: [ Image { form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/a", tag: None, digest: None,},], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: false, dangling: None,}, unpack: false, store: true, push: Some( Push { by_digest: false, insecure: false, compression: Compression { algorithm: Uncompressed, level: None, force: false,},},),},],
        -o type=image,name=a,name-canonical=true,dangling-name-prefix=left,danging-name-empty-only=true .
            outputs: [ Image { form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/a", tag: None, digest: None,},], annotations: [], media_types: Oci, compression: Compression { algorithm: Uncompressed, level: None, force: false,}, keeps_nondistributable: false,}, digest_names: StoreNames { canonical: true, dangling: Some( Dangling { repository: Reference { domain: "docker.io", path: "library/left", tag: None, digest: None,}, only_unnamed: true,},),}, unpack: false, store: true, push: None,},],
        -o type=cacheonly -t x .
            tags: [ Reference { domain: "docker.io", path: "library/x", tag: None, digest: None,},],
            outputs: [ CacheOnly,],
            warnings: [
            "`--tag` has no effect: no output is an image",],
        -o type=oci,dest=x,oci-mediatypes=false,prefer-nondist-layers=true .
            outputs: [ Oci { dest: Path( "x",), tar: true, form: ImageForm { names: [], annotations: [], media_types: Docker, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: true,},},],
        -o type=oci,name=a,dest=x -t b -o type=oci,dest=y,annotation.k=v .
            tags: [ Reference { domain: "docker.io", path: "library/b", tag: None, digest: None,},],
            outputs: [ Oci { dest: Path( "x",), tar: true, form: ImageForm { names: [ Reference { domain: "docker.io", path: "library/a", tag: None, digest: None,},], annotations: [], media_types: Oci, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: false,},}, Oci { dest: Path( "y",), tar: true, form: ImageForm { names: [], annotations: [ Annotation { level: Manifest, platform: None, key: "k", value: "v",},], media_types: Oci, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: false,},},],
        -o type=local,dest=x,mode=delete .
            outputs: [ Local { dest: "x", platform_split: None, mode: Delete,},],
        -o type=local,dest=/,mode=delete --allow buildx.local.delete .
            outputs: [ Local { dest: "/", platform_split: None, mode: Delete,},],
        --iidfile id .
            iidfile: Some("id",),
        --metadata-file meta.json .
            metadata_file: Some("meta.json",),
        --label a=b --label c --label d=e=f .
            labels: { "a": "b", "c": "", "d": "e=f",},
        --unset-env A --unsetenv B --unset-label c --unset-volume /d --unset-expose 80 --unset-expose 53/UDP .
            unset: Unset { variables: [ "A", "B",], labels: [ "c",], volumes: [ "/d",], ports: [ "80/tcp", "53/udp",],},
        --squash .
            squash: true,
        --annotation k=v --annotation manifest:m=v .
            annotations: [ Annotation { level: Manifest, platform: None, key: "k", value: "v",}, Annotation { level: Manifest, platform: None, key: "m", value: "v",},],
        --annotation index,manifest[linux/arm64]:k=a:b=c --annotation index-descriptor:d=1 .
            annotations: [ Annotation { level: Index, platform: None, key: "k", value: "a:b=c",}, Annotation { level: Manifest, platform: Some( Platform { architecture: "arm64", os: "linux", os_version: "", os_features: [], variant: "",},), key: "k", value: "a:b=c",}, Annotation { level: IndexDescriptor, platform: None, key: "d", value: "1",},],
        -o type=oci,dest=a.tar,annotation-index.Key=v,annotation[linux/arm64].k=1,annotation-manifest-descriptor[linux/amd64].k=2 .
            outputs: [ Oci { dest: Path( "a.tar",), tar: true, form: ImageForm { names: [], annotations: [ Annotation { level: Index, platform: None, key: "Key", value: "v",}, Annotation { level: ManifestDescriptor, platform: Some( Platform { architecture: "amd64", os: "linux", os_version: "", os_features: [], variant: "",},), key: "k", value: "2",}, Annotation { level: Manifest, platform: Some( Platform { architecture: "arm64", os: "linux", os_version: "", os_features: [], variant: "",},), key: "k", value: "1",},], media_types: Oci, compression: Compression { algorithm: Gzip, level: None, force: false,}, keeps_nondistributable: false,},},],
        --no-cache .
            no_cache: Always,
        --no-cache --keep-cache-mounts .
            no_cache: Always,
            keep_cache_mounts: true,
        --no-cache-filter build,test --no-cache-filter x .
            no_cache: Stages( [ "build", "test", "x",],),
        --network none .
            network: None,
        --network=host .
            network: Host,
            entitlements: [ NetworkHost,],
        --add-host a:1.2.3.4 --add-host b=::1 --add-host c:[fe80::1] --add-host d:host-gateway .
            extra_hosts: [ ( "a", Ip( 1.2.3.4,),), ( "b", Ip( ::1,),), ( "c", Ip( fe80::1,),), ( "d", Gateway,),],
        --allow network.host --allow security.insecure --allow device --allow device=v.com/c=d .
            entitlements: [ NetworkHost, SecurityInsecure, Device( None,), Device( Some( "v.com/c=d",),),],
        --shm-size 64m .
            shm_size: 67108864,
        --shm-size=1.5GiB .
            shm_size: 1610612736,
        --ulimit nofile=1024:2048 --ulimit core=-1 --ulimit nproc=10 .
            ulimits: [ Ulimit { name: "nofile", soft: 1024, hard: 2048,}, Ulimit { name: "core", soft: -1, hard: -1,}, Ulimit { name: "nproc", soft: 10, hard: 10,},],
        --cgroup-parent /builds .
            cgroup_parent: "/builds",
        --memory 512m --memory-swap 1g --cpu-shares 512 --cpu-period 50000 --cpu-quota 25000 .
            limits: Limits { pids: None, memory: Some( 536870912,), memory_and_swap: Some( 1073741824,), cpu_quota: Some( 25000,), cpu_period: Some( 50000,), cpu_shares: Some( 512,), cpuset_cpus: None, cpuset_mems: None,},
        --cpuset-cpus 0-2,7 --cpuset-mems 0 --step-disk 10g -m 1g -c 2 .
            limits: Limits { pids: None, memory: Some( 1073741824,), memory_and_swap: None, cpu_quota: None, cpu_period: None, cpu_shares: Some( 2,), cpuset_cpus: Some( "0-2,7",), cpuset_mems: Some( "0",),},
            step_disk: Some( 10737418240,),
        --resource memory=1g,cpu-shares=2 --resource '"cpuset-cpus=0,1"' .
            limits: Limits { pids: None, memory: Some( 1073741824,), memory_and_swap: None, cpu_quota: None, cpu_period: None, cpu_shares: Some( 2,), cpuset_cpus: Some( "0,1",), cpuset_mems: None,},
        --hostname box .
            hostname: "box",
        -j 3 .
            jobs: Some( 3,),
        --jobs=1 .
            jobs: Some( 1,),
        --progress json .
            progress: Json,
        --progress=rawjson .
            progress: RawJson,
        --progress none .
            progress: None,
        -q .
            progress: Quiet,
        --check .
            action: Call(Call { method: Check, format: Text, ignore_status: false,},),
        --check=fix .
            action: Fix {
            write: false,},
        --check=fix --write .
            action: Fix {
            write: true,},
        --call check,ignorestatus .
            action: Call(Call { method: Check, format: Text, ignore_status: true,},),
        --call lint,format=json,ignorestatus=false .
            action: Call(Call { method: Check, format: Json, ignore_status: false,},),
        --call format=sarif,check .
            action: Call(Call { method: Check, format: Sarif, ignore_status: false,},),
        --call check,format=github .
            action: Call(Call { method: Check, format: Github, ignore_status: false,},),
        --call outline,format=json .
            action: Call(Call { method: Outline, format: Json, ignore_status: false,},),
        --call targets .
            action: Call(Call { method: Targets, format: Text, ignore_status: false,},),
        --call subrequests.describe,format=text .
            action: Call(Call { method: Describe, format: Text, ignore_status: false,},),
        --opt requestid=frontend.lint .
            action: Call(Call { method: Check, format: Text, ignore_status: false,},),
        --print dag=dot .
            action: Print(Dot,),
        --print=dag .
            action: Print(Text,),
        --opt build-arg:A=1 --opt label:l=v --opt context:c=docker-image://x --opt target=t .
            named_contexts: { "c": "docker-image://x",},
            target: Some( "t",),
            build_args: { "A": "1",},
            labels: { "l": "v",},
        --opt platform=linux/arm64 --opt filename=x --opt no-cache --opt cgroup-parent=/p .
            dockerfile: File( Some( "x",),),
            platforms: [ Platform { architecture: "arm64", os: "linux", os_version: "", os_features: [], variant: "",},],
            no_cache: Always,
            cgroup_parent: "/p",
        --opt no-cache=s1,s2 --opt add-hosts=a=1.2.3.4,b=::1 --opt shm-size=134217728 .
            no_cache: Stages( [ "s1", "s2",],),
            extra_hosts: [ ( "a", Ip( 1.2.3.4,),), ( "b", Ip( ::1,),),],
            shm_size: 134217728,
        --opt ulimit=nofile=1:2,nproc=3 --opt force-network-mode=none --opt hostname=h .
            network: None,
            ulimits: [ Ulimit { name: "nofile", soft: 1, hard: 2,}, Ulimit { name: "nproc", soft: 3, hard: 3,},],
            hostname: "h",
        --opt image-resolve-mode=pull .
            pull: Always,
        --opt multi-platform=true .
            build_args: { "BUILDKIT_MULTI_PLATFORM": "true",},
            index: Some( true,),},
        --opt build-arg:FROM_ENV --opt build-arg:NOT_SET .
            build_args: { "FROM_ENV": "secret",},
        --build-arg BUILDKIT_MULTI_PLATFORM=0 .
            build_args: { "BUILDKIT_MULTI_PLATFORM": "0",},
            index: Some( false,),},
        --opt memory=1g --opt memswap=2g --opt cpushares=3 --opt cpuperiod=1000 --opt cpuquota=4 .
            limits: Limits { pids: None, memory: Some( 1073741824,), memory_and_swap: Some( 2147483648,), cpu_quota: Some( 4,), cpu_period: Some( 1000,), cpu_shares: Some( 3,), cpuset_cpus: None, cpuset_mems: None,},
        --opt cpusetcpus=1 --opt cpusetmems=0 .
            limits: Limits { pids: None, memory: None, memory_and_swap: None, cpu_quota: None, cpu_period: None, cpu_shares: None, cpuset_cpus: Some( "1",), cpuset_mems: Some( "0",),},
        --rm --force-rm --compress .
            warnings: [
            "`--rm` has no effect: steps leave no containers behind",
            "`--force-rm` has no effect: steps leave no containers behind",
            "`--compress` has no effect: the context is read in place",],
        --rm=false --force-rm=0 --compress=F .
            warnings: [
            "`--rm` has no effect: steps leave no containers behind",
            "`--force-rm` has no effect: steps leave no containers behind",
            "`--compress` has no effect: the context is read in place",],
    "#]],
    );
}

#[test]
fn what_asks_for_the_usual_changes_nothing() {
    for line in lines(SO_ANYWAY) {
        let build =
            build(line, &environment(&[])).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        assert_eq!(changes(&build), [""; 0], "`{line}`");
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for line in lines(REFUSED) {
        assert!(build(line, &environment(&[])).is_err(), "`{line}` is accepted");
    }
    check(
        REFUSED,
        &environment(&[]),
        &expect![[r#"
        nosuch
            error: there is no command and no directory `nosuch`
        -f - -
            error: context and Dockerfile cannot both be standard input
        -f web/Containerfile.in .
            error: `--file web/Containerfile.in`: `.in` is for the C preprocessor, which is not run here
              hint: run it: `cpp -E -P web/Containerfile.in | mybuild -f - CONTEXT`
        --build-context c .
            error: `--build-context c`: want NAME=SOURCE
        -t a/UPPER .
            error: `a/UPPER` is not a valid image name: invalid reference format: repository name (a/UPPER) must be lowercase
              hint: did you mean `a/upper`?
        -t a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 .
            error: `a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855` cannot be an image's new name: its digest comes from what it holds
              hint: write NAME or NAME:TAG
        --platform linux//x .
            error: --platform: `linux//x` is not a platform (want OS/ARCH or OS/ARCH/VARIANT)
              hint: write `linux/amd64`, or `local`
        --platform linux/amd46 .
            error: --platform: `linux/amd46` has an unknown architecture `amd46` (did you mean amd64?)
              hint: there are 386, amd64, arm, arm64, loong64, mips, mips64, mips64le, mipsle, ppc64, ppc64le, riscv64, s390x, wasm
        --build-arg BUILDKIT_INLINE_CACHE=what .
            error: `--build-arg BUILDKIT_INLINE_CACHE=what`: want `true` or `false`
        --build-arg =v .
            error: `--build-arg =v`: the name is empty
        --label =v .
            error: `--label =v`: the name is empty
        --annotation k .
            error: `--annotation k`: want KEY=VALUE
        --annotation manifst:k=v .
            error: `--annotation manifst:k=v`: unknown level `manifst` (did you mean manifest?)
              hint: a key with a colon is written `manifest:KEY=VALUE`
        --annotation index[linux/amd64]:k=v .
            error: `--annotation index[linux/amd64]:k=v`: `index` is of all platforms
              hint: leave the platform out, or put it on `manifest` or `manifest-descriptor`
        --annotation manifest[]:k=v .
            error: `--annotation manifest[]:k=v`: `manifest[]`: want a level and a platform in brackets
        --annotation manifest[amd64/linux]:k=v .
            error: `--annotation manifest[amd64/linux]:k=v`: `amd64/linux` has an unknown system `amd64`
              hint: there are aix, android, darwin, dragonfly, freebsd, illumos, ios, js, linux, netbsd, openbsd, plan9, solaris, wasi, wasip1, windows
        -o type=oci,dest=x,annotation-indx.k=v .
            error: `--output type=oci,dest=x,annotation-indx.k=v`: unknown level `indx` (did you mean index?)
              hint: a key with a colon is written `manifest:KEY=VALUE`
        --build-arg BUILDKIT_MULTI_PLATFORM=some .
            error: `--build-arg BUILDKIT_MULTI_PLATFORM=some`: want `true` or `false`
        --opt multi-platform=false --platform linux/amd64,linux/arm64 .
            error: `--build-arg BUILDKIT_MULTI_PLATFORM=false`: several platforms make an index
        --secret src=x .
            error: `--secret src=x`: `id` is missing
        --secret id=x,src=/nosuch/file .
            error: `--secret id=x,src=/nosuch/file`: no file `/nosuch/file`
        --secret id=x,what=1 .
            error: `--secret id=x,what=1`: unknown key `what`
        --secret id=x,type=vault .
            error: `--secret id=x,type=vault`: `type=vault`: want `file` or `env`
        --secret id=x,src=a,env=b .
            error: `--secret id=x,src=a,env=b`: both `src` and `env` are given
        --secret plain .
            error: `plain` in `plain` is not of the form key=value
        --unset-expose 80-90 .
            error: `--unset-expose 80-90`: want PORT or PORT/PROTOCOL
              hint: a port is written 80, 80/tcp, 53/udp or 9899/sctp
        --unset-env '' .
            error: `--unset-env`: the name is empty
        --ssh id=x,raw=true .
            error: `--ssh id=x,raw=true`: `raw=true` is not supported
              hint: what is lent is an agent; other sockets are not forwarded
        --ssh default=/nosuch/file .
            error: `--ssh default=/nosuch/file`: `/nosuch/file`: No such file or directory (os error 2)
        --ssh a=Cargo.toml --ssh a=Cargo.toml .
            error: `--ssh a=Cargo.toml`: `a` is given twice
        --add-host a .
            error: `--add-host a`: want HOST=ADDRESS or HOST:ADDRESS
        --network none --add-host a:host-gateway .
            error: `--add-host a:host-gateway` and `--network=none` do not go together
              hint: without a network the host cannot be reached; leave one of them out
        --add-host a:notanip .
            error: `--add-host a:notanip`: `notanip` is not an address
              hint: want an IP address or `host-gateway`
        --allow device=a,alias=b .
            error: `--allow device=a,alias=b` is not supported
              hint: entitlements are network.host, security.insecure, device, device=NAME and buildx.local.delete
        --network bridge .
            error: `--network=bridge` is not supported
              hint: networks are default, none and host
        --shm-size big .
            error: `--shm-size`: `big` is not a size
              hint: write a number and a unit: 64m, 1g
        --shm-size 99999999p .
            error: `--shm-size`: `99999999p` is not a size
              hint: write a number and a unit: 64m, 1g
        --ulimit nofile .
            error: `--ulimit nofile`: want NAME=SOFT or NAME=SOFT:HARD
        --ulimit what=1 .
            error: `--ulimit what=1`: `what` is not one of as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack
        --ulimit nofile=2:1 .
            error: `--ulimit nofile=2:1`: the soft limit (2) is above the hard limit (1)
        --ulimit nofile=-1:5 .
            error: `--ulimit nofile=-1:5`: the soft limit (-1) is above the hard limit (5)
        --hostname 'a b' .
            error: `--hostname a b` is not a host name
        --jobs 0 .
            error: `--jobs`: `0` is not a number above zero
        --jobs many .
            error: `--jobs`: `many` is not a number above zero
        --pull=sometimes .
            error: `--pull=sometimes`: unknown policy
              hint: policies are always, missing, newer and never
        --offline --pull .
            error: `--offline` and `--pull=always` do not go together
              hint: `--pull=newer` takes the store's image where there is no network
        --keep-cache-mounts .
            error: `--keep-cache-mounts` does nothing alone
              hint: it goes with `--no-cache` and `--no-cache-filter`
        --progress fancy .
            error: `--progress=fancy`: unknown kind
              hint: kinds are auto, tty, plain, json, rawjson, quiet and none
        --progress tty .
            error: `--progress=tty`: standard error is not a terminal
              hint: `--progress=plain` shows the same in lines
        -q --progress plain .
            error: `--quiet` and `--progress=plain` do not go together
        --call convertllb .
            error: `--call=convertllb` is not supported
              hint: methods are build, check, outline, targets and subrequests.describe
        --call targets,format=sarif .
            error: `--call=targets,format=sarif` is not supported
              hint: only `check` is written as sarif or github
        --call check,format=xml .
            error: `--call=check,format=xml` is not supported
              hint: formats are text, json, sarif and github
        --call check,outline .
            error: `--call=check,outline` is not supported
              hint: a call is METHOD[,format=FORMAT][,ignorestatus]
        --call build,format=json .
            error: `--call=build,format=json` is not supported
              hint: a format and a status are of what is told instead of building
        --check=some .
            error: `--check=some` is not supported
              hint: `--check` tells what is doubtful, `--check=fix` mends what it can
        --check=fix --call outline .
            error: `--check=fix` and `--call` do not go together
        --check --write .
            error: `--write` goes with `--check=fix` alone
        --opt requestid=lint .
            error: `--opt requestid=lint` is not supported
        --print outline .
            error: `--print=outline` is not supported
              hint: what can be printed is dag, dag=text, dag=dot and dag=json
        --print dag --check .
            error: `--print` and `--check` do not go together
        -o type=registry,push=false,name=x .
            error: `--output type=registry,push=false,name=x`: `push=false` and `type=registry` do not go together
        -o type=image,push=true .
            error: a push needs a name
              hint: say where to with `-t HOST/NAME:TAG`, or with `name=` in the output
        -o type=registry,push-by-digest=true,name=x:1 .
            error: `x:1`: an image that is pushed by digest gets no tag
              hint: leave the tag out
        -o type=image,registry.insecure=true .
            error: `--output type=image,registry.insecure=true`: `registry.insecure=true` is not supported
              hint: it says something about a push: add `push=true`
        -o type=image,dest=x .
            error: `--output type=image,dest=x`: `dest=x` is not supported
              hint: an image in the store is not a file; `type=oci` writes one
        -o type=image,store=false .
            error: `--output type=image,store=false`: `store=false` is not supported
              hint: `type=cacheonly` keeps no image
        -o type=ova,dest=x .
            error: `--output type=ova,dest=x`: unknown type `ova` (did you mean oci?)
              hint: types are image, registry, oci, docker, local, tar, cacheonly
        -o dest=x,name=y .
            error: `--output dest=x,name=y`: `type` is missing
              hint: types are image, registry, oci, docker, local, tar, cacheonly
        -o type=oci,dest=x,compression=nydus .
            error: `--output type=oci,dest=x,compression=nydus`: `compression=nydus` is not supported
              hint: compressions are gzip, zstd, estargz, zstd:chunked, uncompressed
        -o type=oci,dest=x,compression=estargz,oci-mediatypes=false .
            error: `--output type=oci,dest=x,compression=estargz,oci-mediatypes=false`: `oci-mediatypes=false`: Docker's media types have no layers in estargz
              hint: leave `oci-mediatypes` out
        -o type=oci,dest=x,compression=estargz,compression-level=10 .
            error: `--output type=oci,dest=x,compression=estargz,compression-level=10`: `compression-level=10`: want a number from 0 to 9
        -o type=oci,dest=x,compression-level=10 .
            error: `--output type=oci,dest=x,compression-level=10`: `compression-level=10`: want a number from 0 to 9
        -o type=oci,dest=x,compression=uncompressed,compression-level=1 .
            error: `--output type=oci,dest=x,compression=uncompressed,compression-level=1`: `compression-level` without a compression
        --cache-to type=local,dest=x,mounts-max-size=1g .
            error: `--cache-to type=local,dest=x,mounts-max-size=1g`: `mounts-max-size` without `mounts=true`
        --cache-to type=local,dest=x,mounts=true,mounts-max-size=lots .
            error: `--cache-to type=local,dest=x,mounts=true,mounts-max-size=lots`: `mounts-max-size=lots` is not a size
        --cache-to type=registry,ref=x,format=buildkit,mounts=true .
            error: `--cache-to type=registry,ref=x,format=buildkit,mounts=true`: BuildKit's caches have no contents of cache mounts
        --cache-to type=inline,mounts=true .
            error: `--cache-to type=inline,mounts=true`: `mounts` is not an attribute of `type=inline` that is known
        --cache-from type=local,src=x,mounts-max-size=1g .
            error: `--cache-from type=local,src=x,mounts-max-size=1g`: `mounts-max-size` is not an attribute of `type=local` that is known
        -o type=oci,dest=x,rewrite-timestamp=some .
            error: `--output type=oci,dest=x,rewrite-timestamp=some`: `rewrite-timestamp=some`: want `true`, `false` or `all`
        -o type=local,dest=x,rewrite-timestamp=true .
            error: `--output type=local,dest=x,rewrite-timestamp=true`: `rewrite-timestamp=true` is not supported
        -o type=oci,dest=x,source-date-epoch=-1 .
            error: `--output type=oci,dest=x,source-date-epoch=-1`: `source-date-epoch=-1`: want seconds since 1970, or nothing for no time
        -o type=oci,dest=x,source-date-epoch=253402300800 .
            error: `--output type=oci,dest=x,source-date-epoch=253402300800`: `source-date-epoch=253402300800`: want seconds since 1970, or nothing for no time
        -o type=oci,dest=x,source-date-epoch=1 -o type=local,dest=y,source-date-epoch= .
            error: `--output type=local,dest=y,source-date-epoch=`: another output has a different `source-date-epoch`
              hint: all outputs of a build are the same image: give them the same times
        -o type=image,rewrite-timestamp=true -o type=oci,dest=x,rewrite-timestamp=all .
            error: `--output type=oci,dest=x,rewrite-timestamp=all`: another output has a different `rewrite-timestamp`
              hint: all outputs of a build are the same image: give them the same times
        -o type=oci,dest=x,tar=maybe .
            error: `--output type=oci,dest=x,tar=maybe`: `tar=maybe`: want `true` or `false`
        -o type=oci,tar=false .
            error: `--output type=oci,tar=false`: `tar=false` wants a directory in `dest`
        -o type=oci,dest=x,attestation-inline=true .
            error: `--output type=oci,dest=x,attestation-inline=true`: `attestation-inline=true` is not supported
              hint: attestations are not made
        -o type=docker,context=default .
            error: Docker's context `default`: no engine listens here
        -o type=local .
            error: `--output type=local`: `dest` is missing
        -o type=local,dest=- .
            error: `--output type=local,dest=-`: a directory is wanted, not `-`
        -o type=local,dest=x,mode=move .
            error: `--output type=local,dest=x,mode=move`: `mode=move`: want `copy` or `delete`
        -o type=local,dest=/,mode=delete .
            error: `--output type=local,dest=/,mode=delete`: `dest` is not a directory below the working directory
              hint: `--allow buildx.local.delete` removes files there nevertheless
        -o type=local,dest=.,mode=delete .
            error: `--output type=local,dest=.,mode=delete`: `dest` is not a directory below the working directory
              hint: `--allow buildx.local.delete` removes files there nevertheless
        -o type=local,dest=src/..,mode=delete .
            error: `--output type=local,dest=src/..,mode=delete`: `dest` is not a directory below the working directory
              hint: `--allow buildx.local.delete` removes files there nevertheless
        -o type=local,dest=src,mode=delete src/cli
            error: `--output type=local,dest=src,mode=delete`: the context is in it
              hint: give another `dest`
        -o type=local,dest=x,mode=delete -o type=oci,dest=x/y.tar .
            error: `--output type=oci,dest=x/y.tar`: another output writes to `x`, too
              hint: give each output a `dest` of its own
        -o type=oci,dest=x -o type=tar,dest=./x .
            error: `--output type=tar,dest=./x`: another output writes to `x`, too
              hint: give each output a `dest` of its own
        -o type=oci,dest=x,oci-mediatypes=false,compression=zstd .
            error: `--output type=oci,dest=x,oci-mediatypes=false,compression=zstd`: `oci-mediatypes=false`: Docker's media types have no layers in zstd
              hint: leave `oci-mediatypes` out
        -o type=oci,dest=x,oci-mediatypes=false,annotation.k=v .
            error: `--output type=oci,dest=x,oci-mediatypes=false,annotation.k=v`: `oci-mediatypes=false`: Docker's media types have no annotations
              hint: leave `oci-mediatypes` out
        -o type=oci,dest=x,oci-mediatypes=false --annotation k=v .
            error: `--output type=oci,dest=x,oci-mediatypes=false`: `oci-mediatypes=false`: Docker's media types have no annotations
              hint: leave `oci-mediatypes` or `--annotation` out
        -o type=image,force-compression=true .
            error: `--output type=image,force-compression=true`: `force-compression` without `compression`
        -o type=image,danging-name-empty-only=true .
            error: `--output type=image,danging-name-empty-only=true`: `danging-name-empty-only` without `dangling-name-prefix`
        -o type=image,dangling-name-prefix=a:1 .
            error: `--output type=image,dangling-name-prefix=a:1`: `dangling-name-prefix=a:1`: want a name without tag and digest
        -o type=image,name-canonical=true .
            error: `--output type=image,name-canonical=true`: `name-canonical` without a name
        -o type=registry,name=a,store=false,unpack=true .
            error: `--output type=registry,name=a,store=false,unpack=true`: `store=false` leaves nothing in the store to name or unpack
        -o type=oci,dest=x,name-canonical=true .
            error: `--output type=oci,dest=x,name-canonical=true`: `name-canonical=true` is not supported
        -o type=local,dest=x,annotation.k=v .
            error: `--output type=local,dest=x,annotation.k=v`: `annotation.k=v` is not supported
              hint: only images have annotations
        -o type=tar,dest=x,platform-split=maybe .
            error: `--output type=tar,dest=x,platform-split=maybe`: `platform-split=maybe`: want `true` or `false`
        -o 'type=oci,"dest=x' .
            error: `type=oci,"dest=x`: a quote is not closed
        -o - -o type=oci .
            error: only one output can be standard output
        --opt source=docker/dockerfile:1 .
            error: `--opt source` is not supported
              hint: there is one frontend, and no image of it
        --opt attest:sbom= .
            error: `--opt attest:sbom` is not supported
              hint: attestations are not made
        --opt context=https://x/y.git .
            error: `--opt context` is not supported
              hint: give it as the last word: `mybuild build CONTEXT`
        --opt sharedkey:localdir:context=x .
            error: `--opt sharedkey:localdir:context` is not supported
              hint: directories are read in place: there is no copy that a key could name
        --opt frontend.caps=moby.buildkit.frontend.inputs .
            error: unsupported frontend capability moby.buildkit.frontend.inputs
        --opt tarlet=x .
            error: `--opt tarlet` is not supported
              hint: it is not one of BuildKit's frontend options
        --opt image-resolve-mode=what .
            error: `--opt image-resolve-mode=what` is not supported
        --provenance .
            error: `--provenance=true` is not supported
              hint: attestations are not made
        --provenance=mode=max .
            error: `--provenance=mode=max` is not supported
              hint: attestations are not made
        --sbom=true .
            error: `--sbom=true` is not supported
              hint: attestations are not made
        --attest type=provenance,mode=min .
            error: `--attest type=provenance,mode=min` is not supported
              hint: attestations are not made
        --builder remote .
            error: `--builder` is not supported
              hint: there are no builder instances: mybuild builds by itself
        --push .
            error: a push needs a name
              hint: say where to with `-t HOST/NAME:TAG`, or with `name=` in the output
        --cache-from type=gha .
            error: `--cache-from type=gha`: `url` is missing, and ACTIONS_RESULTS_URL is not set
              hint: jobs of GitHub Actions have the service; GitHub shows it to actions only, not to `run` lines, until a step before them exports it (see `docs/ci.md`)
        --cache-to type=azblob .
            error: `--cache-to type=azblob`: `account_url` is missing, and BUILDKIT_AZURE_STORAGE_ACCOUNT_URL is not set
        --policy filename=x .
            error: `--policy` is not supported
              hint: pin images by digest in the Dockerfile
        --resource cpus=1 .
            error: `--resource cpus=1`: unknown resource `cpus`
              hint: resources are memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems
        --security-opt seccomp=unconfined .
            error: `--security-opt` is not supported
              hint: see `--allow security.insecure`
        --isolation hyperv .
            error: `--isolation=hyperv` is not supported
        -m much .
            error: `--memory`: `much` is not a size
              hint: write a number and a unit: 64m, 1g
        --memory-swap 1g .
            error: `--memory-swap` needs `--memory`
              hint: it is the limit of memory and swap together
        -m 2g --memory-swap 1g .
            error: `--memory-swap 1g` is less than the memory alone
              hint: it is the limit of memory and swap together
        --cpu-shares some .
            error: `--cpu-shares`: `some` is not a number above zero
        --cpuset-cpus all .
            error: `--cpuset-cpus`: `all` is not a list of numbers
              hint: write numbers and ranges: 0-2,7
        --step-disk much .
            error: `--step-disk`: `much` is not a size
              hint: write a number and a unit: 64m, 1g
    "#]],
    );
}

#[test]
fn every_flag_is_honoured_or_refused() {
    let words: Vec<String> = [HONOURED, SO_ANYWAY, REFUSED]
        .into_iter()
        .flat_map(lines)
        .flat_map(|line| line.split_whitespace())
        .map(|word| word.split_once('=').map_or(word, |(flag, _)| flag).to_owned())
        .collect();
    let command = Cli::command();
    let build = command.find_subcommand("build").expect("there is a build command");
    let mut flags = 0;
    for argument in build.get_arguments().filter(|argument| !argument.is_positional()) {
        let flag = format!("--{}", argument.get_long().expect("flags have long names"));
        assert!(words.contains(&flag), "no case for `{flag}`");
        flags += 1;
    }
    assert!(flags > 50, "the walk found {flags} flags only");
}

#[test]
fn the_environment_fills_in() {
    let environment = environment(&[
        ("SOURCE_DATE_EPOCH", "1700000000"),
        ("DOCKER_DEFAULT_PLATFORM", "linux/arm64"),
        ("BUILDKIT_PROGRESS", "json"),
        ("HTTP_PROXY", "http://proxy:3128"),
        ("no_proxy", "localhost"),
        ("UNRELATED", "x"),
    ]);
    check(
        "
        .
        --platform linux/amd64 --progress plain --build-arg HTTP_PROXY= --build-arg SOURCE_DATE_EPOCH=5 .
        -q .
        ",
        &environment,
        &expect![[r#"
        .
            build_args: { "HTTP_PROXY": "http://proxy:3128", "SOURCE_DATE_EPOCH": "1700000000", "no_proxy": "localhost",},
            platforms: [ Platform { architecture: "arm64", os: "linux", os_version: "", os_features: [], variant: "",},],
            progress: Json,
        --platform linux/amd64 --progress plain --build-arg HTTP_PROXY= --build-arg SOURCE_DATE_EPOCH=5 .
            build_args: { "HTTP_PROXY": "", "SOURCE_DATE_EPOCH": "5", "no_proxy": "localhost",},
            platforms: [ Platform { architecture: "amd64", os: "linux", os_version: "", os_features: [], variant: "",},],
        -q .
            build_args: { "HTTP_PROXY": "http://proxy:3128", "SOURCE_DATE_EPOCH": "1700000000", "no_proxy": "localhost",},
            platforms: [ Platform { architecture: "arm64", os: "linux", os_version: "", os_features: [], variant: "",},],
            progress: Quiet,
    "#]],
    );
    let wrong = self::environment(&[("DOCKER_DEFAULT_PLATFORM", "/")]);
    check(
        ".",
        &wrong,
        &expect![[r#"
        .
            error: DOCKER_DEFAULT_PLATFORM: `/` is not a platform (want OS/ARCH or OS/ARCH/VARIANT)
              hint: write `linux/amd64`, or `local`
    "#]],
    );
}

#[test]
fn a_terminal_gets_the_tree_and_no_archive() {
    let terminal = Environment {
        stdin_is_terminal: true,
        stdout_is_terminal: true,
        stderr_is_terminal: true,
        ..environment(&[("TERM", "xterm"), ("BUILDKIT_TTY_LOG_LINES", "3")])
    };
    check(
        "
        .
        --progress tty .
        --progress plain .
        -o - .
        -o type=oci .
    ",
        &terminal,
        &expect![[r#"
        .
            progress: Tree {
            log_lines: 3,},
        --progress tty .
            progress: Tree {
            log_lines: 3,},
        --progress plain .
        -o - .
            error: `--output -` would write an archive to the terminal
              hint: give a file with `dest=`, or redirect standard output
        -o type=oci .
            error: `--output type=oci` would write an archive to the terminal
              hint: give a file with `dest=`, or redirect standard output
    "#]],
    );
    let dumb = Environment { stderr_is_terminal: true, ..environment(&[("TERM", "dumb")]) };
    check(
        ".",
        &dumb,
        &expect![[r#"
        .
    "#]],
    );
}
