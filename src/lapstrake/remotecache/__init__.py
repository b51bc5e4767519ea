"""Caches outside the store: registries, directories, S3 buckets, images (spec cli.md §2.4, oci.md §11)."""
