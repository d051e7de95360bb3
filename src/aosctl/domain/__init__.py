"""What agents are and do: manifests, kinds, the loop; knows providers and tools by their base."""
