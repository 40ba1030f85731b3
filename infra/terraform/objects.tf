# One bucket: data/ is the object store of the cluster, release/ its packages, config/ what its machines start with.

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_18: access logs cost by the request; whoever needs them adds aws_s3_bucket_logging
  # checkov:skip=CKV_AWS_144: what is in it can be made again; a copy in another region would cost more than that
  # checkov:skip=CKV_AWS_145: Amazon's own key; a key of one's own would cost for each of many small objects
  # checkov:skip=CKV2_AWS_62: nobody waits for events of the bucket
  bucket_prefix = "${var.name}-"
  force_destroy = !var.keep_bucket
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# Against a slip of the hand, not as an archive.
resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    id     = "rubbish"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    noncurrent_version_expiration {
      noncurrent_days = 7
    }
    expiration {
      expired_object_delete_marker = true
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = templatefile("${path.module}/policies/bucket.json", { bucket_arn = aws_s3_bucket.this.arn })
}

# What the autoscaler is started with; the same text as the output.
resource "aws_s3_object" "autoscaler" {
  bucket                 = aws_s3_bucket.this.id
  key                    = "config/autoscaler.toml"
  content                = local.autoscaler_config
  content_type           = "application/toml"
  server_side_encryption = "AES256"
  tags                   = local.tags
}

resource "aws_s3_object" "cluster" {
  bucket                 = aws_s3_bucket.this.id
  key                    = "config/cluster.toml"
  content                = local.cluster_config
  content_type           = "application/toml"
  server_side_encryption = "AES256"
  tags                   = local.tags
}
