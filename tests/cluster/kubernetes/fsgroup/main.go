// Command fsgroup gives a mounted volume to a group by the kubelet's own code, as it does for a pod with that fsGroup.
// Usage: fsgroup DIRECTORY GROUP
package main

import (
	"fmt"
	"os"
	"strconv"

	"k8s.io/kubernetes/pkg/volume"
)

type mounted struct{ volume.Mounter }

func (mounted) GetAttributes() volume.Attributes { return volume.Attributes{} }

func main() {
	group, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err == nil {
		err = volume.NewVolumeOwnership(mounted{}, os.Args[1], &group, nil, nil).ChangePermissions()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
