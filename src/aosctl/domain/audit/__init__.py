"""The audit trail outside the database: its export, an independent verifier, signed heads."""
