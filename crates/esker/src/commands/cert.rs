//! `esker cert`: an authority and certificates for development.

use std::{net::IpAddr, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::{cli::CertArgs, exit::Failure, files, output};

/// What the server is called on every machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub(super) fn run(args: &CertArgs) -> Result<(), Failure> {
    files::make_dir(&args.dir).map_err(Failure::doing(format!("making {}", args.dir.display())))?;
    let had_authority = is_there(args, "ca", "key");
    let key = authority_key(args)?;
    let issuer = Issuer::new(authority(args)?, key);
    // Clients are added to what is there; another certificate would have none of the names that were given before.
    let keeps_server =
        args.host.is_empty() && ["crt", "key"].iter().all(|kind| is_there(args, "server", kind));
    let mut made = Vec::new();
    if !had_authority {
        made.push("ca");
    }
    if !keeps_server {
        let hosts = LOCAL.into_iter().map(str::to_owned).chain(args.host.iter().cloned());
        issue(args, &issuer, "server", hosts.collect(), ExtendedKeyUsagePurpose::ServerAuth)?;
        made.push("server");
    }
    for client in &args.client {
        if client.contains('/')
            || client.parse::<IpAddr>().is_ok()
            || ["ca", "server"].contains(&client.as_str())
        {
            return Err(Failure::Usage(format!("a client cannot be called `{}`", client.escape_debug())));
        }
        issue(args, &issuer, client, vec![client.clone()], ExtendedKeyUsagePurpose::ClientAuth)?;
        made.push(client);
    }
    let (made, dir) = (made.join(", "), args.dir.display());
    match keeps_server {
        true => output::line(format_args!("wrote {made} to {dir}; server is as it was")),
        false => output::line(format_args!("wrote {made} to {dir}")),
    }
}

fn is_there(args: &CertArgs, name: &str, kind: &str) -> bool {
    files::exists(&args.dir.join(format!("{name}.{kind}")))
}

fn failed(e: rcgen::Error) -> Failure {
    Failure::Error(format!("the certificate cannot be made: {e}"))
}

/// The authority that certificates name: always the same, as it is known again by its name and its key.
fn authority(args: &CertArgs) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new([]).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Esker development authority");
    bound(&mut params, args);
    Ok(params)
}

/// From yesterday on, as clocks differ.
fn bound(params: &mut CertificateParams, args: &CertArgs) {
    let now = time::OffsetDateTime::UNIX_EPOCH
        + esker_log::clock::Clock::wall(&esker_log::clock::SystemClock::new());
    params.not_before = now - time::Duration::DAY;
    params.not_after = now + time::Duration::days(args.days.into());
}

/// The authority's key, and its certificate beside it: those that are there, or new ones.
fn authority_key(args: &CertArgs) -> Result<KeyPair, Failure> {
    let (key_path, path) = (args.dir.join("ca.key"), args.dir.join("ca.crt"));
    if files::exists(&key_path) {
        let pem = files::read_private(&key_path)
            .map_err(Failure::doing(format!("reading {}", key_path.display())))?;
        return KeyPair::from_pem(&pem).map_err(failed);
    }
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = authority(args)?.self_signed(&key).map_err(failed)?;
    write(&key_path, &key.serialize_pem())?;
    write(&path, &certificate.pem())?;
    Ok(key)
}

fn issue(
    args: &CertArgs,
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(), Failure> {
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    bound(&mut params, args);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, issuer).map_err(failed)?;
    write(&args.dir.join(format!("{name}.key")), &key.serialize_pem())?;
    write(&args.dir.join(format!("{name}.crt")), &certificate.pem())
}

/// Keys are for their owner alone, and certificates are no secret but lie beside them.
fn write(path: &Path, pem: &str) -> Result<(), Failure> {
    files::write_private(path, pem.as_bytes()).map_err(Failure::doing(format!("writing {}", path.display())))
}
